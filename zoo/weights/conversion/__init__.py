"""convert: from one format to another, one file or many, proven before it counts."""
