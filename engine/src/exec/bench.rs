//! The time of one op on a device, and the limits of the card measured in the same run.
