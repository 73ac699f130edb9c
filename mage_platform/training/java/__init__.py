"""The Java part of training: a program that times scores by a MOJO, and how it is compiled."""
