"""The six networks of SPEC section 1, built from plain arguments; attribute names are checkpoint keys."""
