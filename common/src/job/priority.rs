//! The order of jobs within a queue.

crate::word_enum! {
    /// Priority of a job within its queue; a higher one is always claimed before a lower one. The highest is first: in
    /// this order a claim reads the ready lists.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub enum Priority {
        /// Before everything else.
        Urgent = "urgent",
        /// Before normal jobs.
        High = "high",
        /// The default.
        #[default]
        Normal = "normal",
        /// After everything else.
        Low = "low",
    }
}
