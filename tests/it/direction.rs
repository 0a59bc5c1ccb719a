//! Imports have one direction: sibling files and folders do not import each other in a cycle. Parent and child may.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;

use crate::tree;

/// The crates that are checked.
const CRATES: [&str; 6] = ["common", "otel", "consumer", "worker", "api", "cli"];

/// The path of a module or item from its crate's root.
type Name = Vec<String>;

/// By parent and child: the siblings of the child that it imports, with an example of each.
type SiblingImports = BTreeMap<(Name, String), BTreeMap<String, String>>;

#[test]
fn sibling_modules_do_not_import_each_other_in_a_cycle() {
    let cycles: Vec<_> = CRATES
        .iter()
        .flat_map(|name| {
            let cycles = Crate::read(&format!("{name}/src/")).cycles();
            cycles.into_iter().map(move |cycle| format!("{name}: {cycle}"))
        })
        .collect();
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

/// The modules of a crate that are files, and what each of them uses.
struct Crate {
    modules: BTreeMap<Name, Module>,
}

#[derive(Default)]
struct Module {
    /// What the names in its scope refer to.
    imports: BTreeMap<String, Name>,
    /// Paths in it, as seen from the root of the crate.
    uses: BTreeSet<Name>,
}

impl Crate {
    fn read(source: &str) -> Self {
        let mut modules = BTreeMap::new();
        for path in tree::files(source) {
            let Some(file) = path.strip_prefix(source).and_then(|path| path.strip_suffix(".rs"))
            else {
                continue;
            };
            let text = tree::read(&path);
            let mut name: Name = file.split('/').map(str::to_owned).collect();
            if name == ["lib"] || name == ["main"] {
                name.clear();
            }
            if name.iter().any(|part| part == "tests") {
                continue;
            }
            let mut reader = Reader { name: name.clone(), module: Module::default() };
            reader.visit_file(&syn::parse_file(&text).unwrap());
            modules.insert(name, reader.module);
        }
        Self { modules }
    }

    fn cycles(&self) -> Vec<String> {
        let mut imports = SiblingImports::new();
        for (from, module) in &self.modules {
            for used in &module.uses {
                let to = self.defining_module(used, 8);
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if shared < from.len() && shared < to.len() {
                    let sibling = (from[..shared].to_vec(), from[shared].clone());
                    let example = format!("{} uses {}", from.join("/"), used.join("::"));
                    imports.entry(sibling).or_default().insert(to[shared].clone(), example);
                }
            }
        }
        cycles(&imports)
    }

    /// The module in which something is defined: re-exports by modules on the way are followed.
    fn defining_module(&self, path: &[String], hops: usize) -> Name {
        let known = (0..=path.len()).rev().find(|&end| self.modules.contains_key(&path[..end]));
        let end = known.unwrap_or(0);
        let import =
            path.get(end).and_then(|item| self.modules.get(&path[..end])?.imports.get(item));
        match import {
            Some(target) if hops > 0 => {
                let whole: Name = target.iter().chain(&path[end + 1..]).cloned().collect();
                self.defining_module(&whole, hops - 1)
            }
            _ => path[..end].to_vec(),
        }
    }
}

/// Reads the paths of one file; code that is compiled for tests only does not count.
struct Reader {
    name: Name,
    module: Module,
}

impl Reader {
    /// A path as seen from the root of the crate; `None` if it leads to another crate.
    fn resolve(&self, path: &[String]) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.name.clone(),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let parent = self.name[..self.name.len().checked_sub(ups)?].to_vec();
                return Some([parent, path[ups..].to_vec()].concat());
            }
            // A name of its own scope: an import is counted at its declaration, and a child is not a sibling.
            _ => return None,
        };
        Some([start, rest.to_vec()].concat())
    }

    fn import(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &with(path.ident.to_string())),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before));
            }
            syn::UseTree::Glob(_) => self.name_import("*", before.to_vec()),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.name_import(&before[before.len() - 1].clone(), before.to_vec());
            }
            syn::UseTree::Name(name) => {
                self.name_import(&name.ident.to_string(), with(name.ident.to_string()));
            }
            syn::UseTree::Rename(name) => {
                self.name_import(&name.rename.to_string(), with(name.ident.to_string()));
            }
        }
    }

    fn name_import(&mut self, name: &str, path: Name) {
        let target = self.resolve(&path).unwrap_or_else(|| [self.name.clone(), path].concat());
        self.module.uses.insert(target.clone());
        self.module.imports.insert(name.to_owned(), target);
    }
}

fn for_tests_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => return syn::visit::visit_item(self, item),
        };
        if !for_tests_only(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Name = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.module.uses.extend(self.resolve(&names));
        syn::visit::visit_path(self, path);
    }
}

/// The cycles among siblings: groups in which each member reaches every other.
fn cycles(imports: &SiblingImports) -> Vec<String> {
    let reached = |parent: &Name, from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from.clone()];
        while let Some(name) = next.pop() {
            let to = imports.get(&(parent.clone(), name)).into_iter().flatten();
            next.extend(to.filter(|(to, _)| seen.insert((*to).clone())).map(|(to, _)| to.clone()));
        }
        seen
    };
    let mut found = BTreeSet::new();
    for (parent, name) in imports.keys() {
        let there = reached(parent, name);
        let members: Vec<_> =
            there.iter().filter(|other| reached(parent, other).contains(name)).cloned().collect();
        if members.len() > 1 {
            let within = members.iter().flat_map(|member| {
                let to = imports.get(&(parent.clone(), member.clone())).into_iter().flatten();
                to.filter(|(to, _)| members.contains(to)).map(|(_, example)| example)
            });
            let within: String = within.map(|example| format!("\n    {example}")).collect();
            found.insert(format!("{}/{{{}}}{within}", parent.join("/"), members.join(", ")));
        }
    }
    found.into_iter().collect()
}
