//! Bad values
