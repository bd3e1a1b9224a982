"""The web console: what an operator and a reviewer look at. Loaded only where a gateway has it on."""
