"""A setup rated on 37 criteria, one file for each group of them; rating.py adds them up."""
