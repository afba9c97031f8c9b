raise RuntimeError("the shared library libacme.so is too old")
