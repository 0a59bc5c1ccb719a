//! Where jobs wait.

crate::name::checked_name! {
    /// Name of a queue: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    QueueName
}

impl QueueName {
    /// Whether it is Crunch's own: deliveries of webhooks wait there, and nobody else may put or take anything.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str() == crate::name::WEBHOOKS
    }
}
