"""bateau beside other libraries' worlds. One subpackage each; none is imported with ``import bateau``."""
