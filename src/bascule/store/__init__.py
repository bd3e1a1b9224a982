"""What is kept: records in a database, counters in memory."""
