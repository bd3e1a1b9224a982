"""Research: papers, and documents from the web."""
