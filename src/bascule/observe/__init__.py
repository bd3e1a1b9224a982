"""What a gateway lets be seen of itself: metrics, traces, logs. None of it changes what a call does."""
