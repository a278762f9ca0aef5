//! A value that follows transactions: set in a subtransaction, it is undone when that one is rolled
//! back to, and is gone when the transaction ends.
//!
//! Subtransactions are told apart by the numbers Postgres gives them, which only rise within a
//! transaction. Only those that set the value are remembered, so one that does not costs nothing.

/// Levels from the outside in, each with what it set; the last one counts.
#[derive(Debug)]
pub struct Nested<T> {
    levels: Vec<Level<T>>,
}

#[derive(Debug)]
struct Level<T> {
    subtransaction: u32,
    /// `None`: unset here, which hides what is outside.
    value: Option<T>,
}

impl<T> Nested<T> {
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    pub fn current(&self) -> Option<&T> {
        self.levels.last()?.value.as_ref()
    }

    /// Sets or unsets it in the innermost subtransaction, which is this one.
    pub fn set(&mut self, subtransaction: u32, value: Option<T>) {
        match self.levels.last_mut() {
            Some(level) if level.subtransaction == subtransaction => level.value = value,
            _ => self.levels.push(Level { subtransaction, value }),
        }
    }

    /// A subtransaction ended well: what it set is now what its parent set.
    pub fn release(&mut self, subtransaction: u32, parent: u32) {
        if let Some(mut level) = self.levels.pop_if(|top| top.subtransaction == subtransaction) {
            self.levels.pop_if(|top| top.subtransaction == parent);
            level.subtransaction = parent;
            self.levels.push(level);
        }
    }

    /// A subtransaction was rolled back: what was before is again.
    pub fn roll_back(&mut self, subtransaction: u32) {
        while self.levels.pop_if(|top| top.subtransaction >= subtransaction).is_some() {}
    }

    /// The transaction ended, however it did.
    pub fn end(&mut self) {
        self.levels.clear();
    }
}

impl<T> Default for Nested<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(Option<u8>),
        Begin,
        Release,
        RollBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<Option<u8>>().prop_map(Step::Set),
            Just(Step::Begin),
            Just(Step::Release),
            Just(Step::RollBack),
        ]
    }

    proptest! {
        /// Against the plain way: a copy of the value for each open subtransaction.
        #[test]
        fn is_what_copying_at_every_savepoint_would_be(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut nested = Nested::new();
            let mut copies = vec![(1_u32, None)];
            let mut next = 2;
            for step in steps {
                let (open, value) = *copies.last().expect("the transaction itself");
                match step {
                    Step::Set(new) => {
                        nested.set(open, new);
                        copies.last_mut().expect("open").1 = new;
                    }
                    Step::Begin => {
                        copies.push((next, value));
                        next += 1;
                    }
                    Step::Release if copies.len() > 1 => {
                        copies.pop();
                        let parent = copies.last_mut().expect("parent");
                        parent.1 = value;
                        nested.release(open, parent.0);
                    }
                    Step::RollBack if copies.len() > 1 => {
                        copies.pop();
                        nested.roll_back(open);
                    }
                    Step::Release | Step::RollBack => {}
                }
                let expected = copies.last().expect("open").1;
                prop_assert_eq!(nested.current().copied(), expected);
            }
            nested.end();
            prop_assert_eq!(nested.current(), None);
        }
    }
}
