//! The layer table in `src/lib.rs` is true: modules use what stands below them, or in their row.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn modules_use_only_what_stands_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(source.join("lib.rs")).expect("the crate's root");
    let rows = rows_of(&lib);
    let place = |module: &str| rows.get(module).copied();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files_below(&source) {
        let relative = file.strip_prefix(&source).expect("below the source");
        let module = relative.iter().next().expect("a name").to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        if matches!(module.as_str(), "lib" | "main" | "cli") {
            continue;
        }
        let (layer, row) =
            place(&module).unwrap_or_else(|| panic!("`{module}` is not in the layer table"));
        let text = fs::read_to_string(&file).expect("a source file");
        // Unit tests may look up.
        let text = text
            .split("#[cfg(test)]")
            .next()
            .expect("at least the start");
        for used in text.split("crate::").skip(1).filter_map(first_word) {
            let Some((used_layer, used_row)) = place(used) else {
                continue;
            };
            seen += 1;
            if used != module && used_layer >= layer && used_row != row {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
            if used != module && used_layer > layer {
                wrong.push(format!("{} looks up to {used}", relative.display()));
            }
        }
    }
    assert!(seen > 50, "the test no longer finds what modules use");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The layer and the row of every module in the table.
fn rows_of(lib: &str) -> HashMap<String, (u32, usize)> {
    let mut rows = HashMap::new();
    for (row, line) in lib.lines().enumerate() {
        let Some(line) = line.strip_prefix("//! | ") else {
            continue;
        };
        let mut cells = line.split(" | ");
        let Some(layer) = cells.next().and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        for module in cells.next().unwrap_or_default().split(", ") {
            rows.insert(module.trim_matches('`').to_owned(), (layer, row));
        }
    }
    assert!(rows.len() > 10, "the layer table is gone");
    rows
}

fn first_word(text: &str) -> Option<&str> {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
    Some(&text[..end])
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
