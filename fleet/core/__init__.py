"""Pure values and functions: no clock, no I/O, no logging. Values in, values out."""
