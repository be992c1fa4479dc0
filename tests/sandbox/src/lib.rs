//! A simulated Fluent Commerce: the stand-in for the real thing in every test and in the demo.
