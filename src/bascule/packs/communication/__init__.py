"""Communication: messages to a team, and how its projects stand."""
