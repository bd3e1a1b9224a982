"""What is callable: the catalog (a pure snapshot), what keeps it fresh, and the endpoint made of it."""
