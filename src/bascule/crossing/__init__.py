"""Every era on both sides: a server that speaks one of them, served to clients of the other."""
