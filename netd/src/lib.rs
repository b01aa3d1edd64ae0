//! warren-netd
