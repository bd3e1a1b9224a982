"""Images below one folder: look at, resize, compress, convert, turn upright, name by a rule."""
