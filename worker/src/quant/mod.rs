//! NF4 with double quantization, as bitsandbytes stores it.
