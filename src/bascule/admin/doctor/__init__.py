"""What a setup lacks, and how to mend it: one file for each area, and examine.py, which asks all of them."""
