"""The six networks (docs/how_it_works.md section 1), from plain arguments; attribute names are checkpoint keys."""
