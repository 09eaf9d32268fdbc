//! `/`: a page for people, which fetches `/transfers` and shows it.

use maud::{DOCTYPE, PreEscaped, html};

/// The page; its bytes do not depend on the request.
pub(super) fn page() -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "haul" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "haul " span #version {} }
                    p #state role="status" { "asking" }
                }
                dl {
                    div { dt { "now" } dd #rate { "–" } }
                    div { dt { "connections" } dd #connections { "–" } }
                    div { dt { "transfers" } dd #count { "–" } }
                    div { dt { "requests" } dd #requests { "–" } }
                    div { dt { "sent" } dd #sent { "–" } }
                    div { dt { "up" } dd #uptime { "–" } }
                }
                figure {
                    svg #picture viewBox="0 0 300 60" preserveAspectRatio="none" role="img"
                        aria-label="Bytes a second over the last five minutes" {
                        path #area {}
                    }
                    figcaption #most {}
                }
                label { "Find " input #find type="search" autocomplete="off"; }
                table {
                    thead {
                        tr {
                            th { "client" } th { "request" } th .number { "done" }
                            th .number { "rate" } th .number { "left" } th { "waits for" }
                        }
                    }
                    tbody #rows {}
                }
                p #more {}
                noscript { "This page needs its script; /transfers and /metrics do not." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --fill: #3b82f6; }
body { font: 15px/1.4 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
header { display: flex; align-items: baseline; justify-content: space-between; gap: 1rem; }
h1 { font-size: 1.3rem; margin: 0; } h1 span { font-weight: normal; opacity: .7; }
#state { margin: 0; } #state.bad { color: #dc2626; font-weight: bold; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .5rem; }
dl div { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .6rem; }
dt { font-size: .8rem; opacity: .7; } dd { margin: 0; font-size: 1.1rem; }
dd, td.number { font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1rem; } svg { width: 100%; height: 5rem; border-bottom: 1px solid var(--line); }
path { fill: var(--fill); opacity: .8; } figcaption { font-size: .8rem; opacity: .7; }
input { font: inherit; padding: .2rem .4rem; max-width: 60vw; }
table { border-collapse: collapse; width: 100%; margin-top: .6rem; }
th { text-align: left; font-size: .8rem; opacity: .7; } th, td { padding: .3rem .5rem .3rem 0; }
.number { text-align: right; } .number, th, td:first-child { white-space: nowrap; }
td { border-top: 1px solid var(--line); vertical-align: top; }
td.request { overflow-wrap: anywhere; width: 100%; } td.bar { min-width: 9rem; }
progress { display: block; width: 100%; height: .4rem; accent-color: var(--fill); }
@media (max-width: 40rem) {
  thead { display: none; }
  tr { display: grid; grid-template-columns: 1fr 1fr 1fr; border-top: 1px solid var(--line);
       padding: .4rem 0; }
  td { border: 0; padding: .1rem 0; text-align: left !important; }
  td:nth-child(-n+3) { grid-column: 1 / -1; }
}
";

const SCRIPT: &str = r#"
"use strict";
const SHOWN = 200, EVERY = 2000;
const at = id => document.getElementById(id);
const bytes = n => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return (unit && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[unit];
};
const time = s => s < 60 ? Math.round(s) + " s" : s < 3600 ? Math.floor(s / 60) + " min"
  : s < 86400 ? Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min"
  : Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
const cell = (row, text, name) => {
  const made = row.insertCell();
  made.textContent = text;
  if (name) made.className = name;
  return made;
};
// What is the same for nearly all is left out, and what would turn the direction of writing.
const path = request => {
  const text = request.replace(/^GET /, "").replace(/ HTTP\/1\.1$/, "");
  try {
    return decodeURIComponent(text).replace(/[\p{Cc}\p{Cf}]/gu, "\ufffd");
  } catch {
    return text;
  }
};
let last = null;
function draw(values) {
  const most = Math.max(1, ...values), from = 300 - values.length;
  const points = values.map((value, i) => `L${from + i} ${60 - 58 * value / most}`);
  at("area").setAttribute("d", `M${from} 60${points.join("")}L299 60Z`);
  at("most").textContent = "last five minutes, at most " + bytes(Math.max(0, ...values)) + "/s";
}
function rows(transfers) {
  const wanted = at("find").value.toLowerCase();
  const found = transfers.filter(t => (t.client + " " + path(t.request)).toLowerCase().includes(wanted));
  const body = document.createElement("tbody");
  body.id = "rows";
  for (const t of found.slice(0, SHOWN)) {
    const row = body.insertRow();
    cell(row, t.client);
    cell(row, path(t.request), "request");
    const done = cell(row, bytes(t.sent) + (t.intended ? " of " + bytes(t.intended) : ""), "number bar");
    if (t.intended) {
      const bar = document.createElement("progress");
      bar.max = t.intended;
      bar.value = t.sent;
      done.append(bar);
    }
    cell(row, bytes(t.bytes_per_second) + "/s", "number");
    cell(row, t.seconds_left === undefined ? "–" : time(t.seconds_left), "number");
    cell(row, t.waits_for + (t.old ? ", old" : ""));
  }
  at("rows").replaceWith(body);
  at("more").textContent = found.length > SHOWN ? `and ${found.length - SHOWN} more` : "";
}
function show(status) {
  last = status;
  const drains = [];
  for (let it = status.predecessor; it; it = it.predecessor) {
    drains.push(`; process ${it.process} drains, waits for ${it.transfers.length} transfers`);
    status.transfers.push(...it.transfers.map(t => ({ ...t, old: true })));
  }
  at("version").textContent = status.version;
  at("state").textContent = (status.draining ? "draining" : "serving") + drains.join("");
  at("state").className = status.draining ? "bad" : "";
  at("rate").textContent = bytes(status.bytes_per_second.at(-1) ?? 0) + "/s";
  at("connections").textContent = status.connections + " of " + status.connections_limit;
  at("count").textContent = status.transfers.length;
  at("requests").textContent = status.requests;
  at("sent").textContent = bytes(status.bytes_sent);
  at("uptime").textContent = time(status.uptime_seconds);
  draw(status.bytes_per_second);
  rows(status.transfers);
}
async function ask() {
  try {
    const answer = await fetch("transfers");
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.json());
  } catch (error) {
    at("state").textContent = "no answer";
    at("state").className = "bad";
  }
  setTimeout(ask, EVERY);
}
at("find").addEventListener("input", () => last && rows(last.transfers));
ask();
"#;
