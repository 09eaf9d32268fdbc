//! The layers that `src/lib.rs` describes: top-level modules and those of the server use what stands
//! below them, no child imports its parent, and the children of one folder form no circle. Each file
//! begins with a line about itself, and the guide for contributors names files that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path beneath the crate, and the modules that its production code names.
type Uses = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn top_level_modules_use_only_what_stands_below_them() {
    arrows_point_down(&[], "");
}

#[test]
fn modules_of_the_server_use_only_what_stands_below_them() {
    arrows_point_down(&["server"], "server ");
}

/// Holds the modules of a folder against its table, whose rows begin with `mark` and a number.
fn arrows_point_down(folder: &[&str], mark: &str) {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("the crate's root");
    let layers = layers_of(&lib, mark);
    let layer_of = |module: &[String]| {
        let name = &module[folder.len()];
        *layers
            .get(name)
            .unwrap_or_else(|| panic!("`{name}` is not in the layer table"))
    };
    let is_inside = |module: &[String]| {
        module.len() > folder.len() && module.iter().zip(folder).all(|(name, of)| name == of)
    };
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, used) in uses().into_iter().filter(|(module, _)| is_inside(module)) {
        let layer = layer_of(&module);
        let others = used.iter().filter(|other| is_inside(other));
        for other in others.filter(|other| other[folder.len()] != module[folder.len()]) {
            seen += 1;
            if layer_of(other) >= layer {
                wrong.push(format!("{} uses {}", module.join("::"), other.join("::")));
            }
        }
    }
    assert!(seen > 50, "the test no longer finds what modules use");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_child_imports_its_parent() {
    let mut wrong = Vec::new();
    for (module, used) in uses() {
        for other in used {
            if other.len() < module.len() && module.starts_with(&other) {
                wrong.push(format!(
                    "{} imports {}",
                    module.join("::"),
                    other.join("::")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn children_of_one_folder_form_no_circle() {
    // For each folder, the arrows between its children, each child with all that is beneath it.
    let mut arrows: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, used) in uses() {
        for other in used {
            let common = module
                .iter()
                .zip(&other)
                .take_while(|(left, right)| left == right)
                .count();
            if common < module.len() && common < other.len() {
                arrows
                    .entry(module[..common].to_vec())
                    .or_default()
                    .entry(module[common].clone())
                    .or_default()
                    .insert(other[common].clone());
            }
        }
    }
    let mut wrong = Vec::new();
    for (folder, mut arrows) in arrows {
        // What uses nothing is taken away until nothing is left, or a circle.
        loop {
            let left: BTreeSet<String> = arrows.keys().cloned().collect();
            let before = arrows.len();
            arrows.retain(|_, used| used.iter().any(|other| left.contains(other)));
            if arrows.len() == before {
                break;
            }
        }
        if !arrows.is_empty() {
            wrong.push(format!("in {}: {arrows:?}", folder.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_is_in_it() {
    let is_silent = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("a source file");
        !text.starts_with("//! ")
    };
    let silent: Vec<_> = files_below(&source())
        .into_iter()
        .filter(is_silent)
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn files_that_the_guide_for_contributors_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join(".github/CONTRIBUTING.md")).expect("the guide");
    let files: Vec<_> = ["src", "tests/it"]
        .iter()
        .flat_map(|folder| files_below(&root.join(folder)))
        .collect();
    let named: Vec<_> = (guide.split('`').skip(1).step_by(2))
        .filter(|name| name.ends_with(".rs"))
        .collect();
    let is_there = |name: &str| files.iter().any(|file| file.ends_with(name));
    let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(named.len() > 50, "the table is gone");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The layer of every module in the table whose rows begin with `mark` and a number.
fn layers_of(lib: &str, mark: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split(" | ");
        let cell = cells.next().and_then(|cell| cell.strip_prefix(mark));
        let Some(layer) = cell.and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        for module in cells.next().unwrap_or_default().split(", ") {
            layers.insert(module.trim_matches('`').to_owned(), layer);
        }
    }
    assert!(layers.len() > 5, "the layer table is gone");
    layers
}

/// What every module's production code names by `crate::` and `super::`.
fn uses() -> Uses {
    let modules: BTreeMap<Vec<String>, String> = files_below(&source())
        .into_iter()
        .filter_map(|file| {
            let module = module_of(&file)?;
            let text = fs::read_to_string(&file).expect("a source file");
            // Unit tests stand at the end and may look up.
            let code = text.split("\nmod tests {").next()?.to_owned();
            Some((module, code))
        })
        .collect();
    modules
        .iter()
        .map(|(module, code)| {
            let mut used: BTreeSet<Vec<String>> = paths_in(code, "crate::", &[])
                .chain(paths_in(code, "super::", &module[..module.len() - 1]))
                .filter_map(|path| longest_module(path, &modules))
                .collect();
            used.remove(module);
            (module.clone(), used)
        })
        .collect()
}

/// The paths behind each `prefix` in code that is no comment, continued from `base`.
fn paths_in<'a>(
    code: &'a str,
    prefix: &'a str,
    base: &'a [String],
) -> impl Iterator<Item = Vec<String>> + 'a {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        // In a module within the file, `super` is the file itself.
        .filter(move |line| prefix != "super::" || !line.starts_with(' '))
        .flat_map(move |line| line.split(prefix).skip(1))
        .map(move |rest| {
            let end = rest
                .find(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter))
                .unwrap_or(rest.len());
            let names = rest[..end].split("::").filter(|name| !name.is_empty());
            base.iter()
                .cloned()
                .chain(names.map(str::to_owned))
                .collect()
        })
}

/// The module that a path names, or that holds the item that it names.
fn longest_module(
    mut path: Vec<String>,
    modules: &BTreeMap<Vec<String>, String>,
) -> Option<Vec<String>> {
    while !path.is_empty() && !modules.contains_key(&path) {
        path.pop();
    }
    (!path.is_empty()).then_some(path)
}

fn module_of(file: &Path) -> Option<Vec<String>> {
    let relative = file.strip_prefix(source()).expect("below the source");
    let module: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    // The program stands above the library; files of unit tests may look up.
    let left_out = matches!(module[0].as_str(), "lib" | "main" | "cli")
        || (module.iter()).any(|name| matches!(name.as_str(), "tests" | "models"));
    (!left_out).then_some(module)
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
