"""Numbers and what they are worth: linear algebra, moments, nulls, ranks, errors."""
