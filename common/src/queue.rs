//! Where jobs wait.

crate::name::checked_name! {
    /// Name of a queue: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    QueueName
}
