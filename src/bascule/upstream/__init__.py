"""We reach servers: child processes over stdio, remote ones over HTTP."""
