//! Each kind of fault on literals.
