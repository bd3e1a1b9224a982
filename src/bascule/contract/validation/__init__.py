"""Values against schemas that nobody vouches for: which may be used, what they may cost, what to mend. PURE."""
