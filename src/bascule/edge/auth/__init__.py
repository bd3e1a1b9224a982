"""Who calls: from a request's credential to a caller, or a refusal."""
