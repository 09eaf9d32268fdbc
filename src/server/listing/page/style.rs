//! How the page looks, and what its script does.

/// Allows the page its inline style and script and nothing else. A test compares the hashes.
pub(crate) const SECURITY_POLICY: &str = "default-src 'none'; \
style-src 'sha256-sLQ/7KN/6FZ9Jans+DbpWF+uiaBZGlwIpAPiQ9iEY+o='; \
script-src 'sha256-Szi6AljLfOJevuVVyDihEmQl7kQrb86ZI+gxxhfMkZU='; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) const STYLE: &str = r##"
:root{color-scheme:light dark;
--ground:light-dark(#f6f7f9,#14161a);--card:light-dark(#fff,#1c1f25);--ink:light-dark(#1b1e24,#e7e9ee);
--faint:light-dark(#656c78,#969eac);--line:light-dark(#e3e6eb,#2b3038);--link:light-dark(#0b5fce,#86b8ff);
--hover:light-dark(#eef4fd,#232935);--mark:light-dark(#d9e7fb,#2b3f5c)}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.25rem 1.25rem 3rem}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:4px}
.sprite{display:none}
svg{width:1.15em;height:1.15em;flex:none;vertical-align:-.2em;fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
nav.crumbs{font-size:1.3rem;font-weight:600;line-height:1.3;overflow-wrap:anywhere;margin:.25rem 0 1rem}
nav.crumbs i{font-style:normal;font-weight:400;color:var(--faint);margin:0 .3em}
nav.crumbs b{font-weight:700}
form{display:flex;gap:.5rem;align-items:center;margin:0 0 .5rem}
input{flex:1;max-width:24rem;min-width:0;font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.45rem .75rem}
button,.more a{font:inherit;color:var(--link);background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.45rem .9rem;cursor:pointer}
.total{color:var(--faint);margin:0 0 .75rem;min-height:1.5em}
table{width:100%;border-collapse:separate;border-spacing:0;background:var(--card);border:1px solid var(--line);border-radius:12px}
th{text-align:left;font-weight:600;font-size:.86rem;border-bottom:1px solid var(--line);padding:0;white-space:nowrap}
button[form]{font:inherit;border:0;background:none;padding:0;color:var(--link);cursor:pointer}
th button[form]{display:block;width:100%;padding:.6rem .85rem;text-align:inherit;color:var(--faint)}
th[aria-sort] button{color:var(--ink)}
td{padding:.42rem .85rem;border-bottom:1px solid var(--line);vertical-align:middle}
tr:last-child td{border-bottom:0}
tbody tr:hover{background:var(--hover)}
td.name{width:60%;overflow-wrap:anywhere}
td.name a{display:flex;gap:.6rem;align-items:center}
td.name svg{color:var(--faint)}
td.name use[href="#d"]{color:var(--link)}
th.size,td.size{text-align:right}
td.size,td.time,td.kind{white-space:nowrap;color:var(--faint);font-variant-numeric:tabular-nums}
td.kind{max-width:14rem;overflow:hidden;text-overflow:ellipsis}
td.get{width:2.6rem;padding-left:0;text-align:right}
details{position:relative;display:inline-block}
summary{list-style:none;cursor:pointer;color:var(--faint);padding:.15rem .35rem;border-radius:6px;line-height:1}
summary::-webkit-details-marker{display:none}
summary:hover,details[open] summary{color:var(--link);background:var(--mark)}
.ways{position:absolute;right:0;top:1.9rem;z-index:2;width:min(34rem,calc(100vw - 3rem));text-align:left;background:var(--card);border:1px solid var(--line);border-radius:10px;box-shadow:0 8px 30px rgb(0 0 0/.22);padding:.75rem;display:grid;gap:.5rem}
code{font:.84rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--ground);border:1px solid var(--line);border-radius:6px;padding:.45rem .6rem;overflow-wrap:anywhere;user-select:all;cursor:copy}
code.copied{background:var(--mark)}
.empty{padding:2.5rem 1rem;text-align:center;color:var(--faint)}
.more{display:flex;gap:.6rem;justify-content:center;margin:1.25rem 0}
footer{color:var(--faint);font-size:.86rem;margin-top:1.25rem;text-align:center}
@media(max-width:44rem){
main{padding:.9rem .75rem 2.5rem}
thead tr{display:flex;border-bottom:1px solid var(--line)}
th{border:0}
th.kind,th.get{display:none}
th.size{text-align:left}
thead,tbody{display:block}
table{display:block}
tbody tr{display:grid;grid-template-columns:auto 1fr auto;column-gap:.9rem;padding:.55rem .85rem;border-bottom:1px solid var(--line)}
tbody tr:last-child{border-bottom:0}
tbody tr[hidden]{display:none}
td,tr:last-child td{border:0;padding:0}
td.name{grid-column:1/3;width:auto;padding:.15rem 0}
td.get{grid-column:3;grid-row:1/3;align-self:center;width:auto}
td.size{grid-column:1;padding-left:1.75rem;text-align:left;font-size:.86rem}
td.time{grid-column:2;font-size:.86rem}
td.kind{display:none}
summary{padding:.5rem}
}
@media(pointer:coarse){td.name a{min-height:2rem}}
"##;

/// Filters while the user types, updates the total, copies a clicked command, and moves through the
/// names by arrow keys.
pub(super) const SCRIPT: &str = r#"
"use strict";
const rows=[...document.querySelectorAll("tbody tr")],box=document.querySelector("input[name=q]"),
total=document.querySelector(".total"),said=total.textContent;
const unit=n=>{let u=["B","KiB","MiB","GiB","TiB","PiB","EiB"],i=0;while(n>=1024&&i<6){n/=1024;i++}return(i?n.toFixed(1):n)+" "+u[i]};
const entry=r=>r.querySelector("a");
const names=rows.map(r=>entry(r).textContent.toLowerCase());
const applied=box.value;
box.addEventListener("input",()=>{
const q=box.value.toLowerCase();let n=0,b=0;
rows.forEach((r,i)=>{const keep=r.dataset.size===undefined||names[i].includes(q);r.hidden=!keep;
if(keep&&r.dataset.size!==undefined){n++;b+=+r.dataset.size}});
total.textContent=box.value===applied?said:n.toLocaleString("en")+" shown here, "+unit(b)});
document.addEventListener("click",e=>{
const c=e.target.closest("code");
if(c&&navigator.clipboard)navigator.clipboard.writeText(c.textContent).then(()=>{c.classList.add("copied");setTimeout(()=>c.classList.remove("copied"),700)});
document.querySelectorAll("details[open]").forEach(d=>{if(!d.contains(e.target))d.open=false})});
document.addEventListener("keydown",e=>{
if(e.ctrlKey||e.metaKey||e.altKey)return;
const a=document.activeElement;
if(e.key==="Escape"){document.querySelectorAll("details[open]").forEach(d=>{d.open=false;d.firstElementChild.focus()})}
else if(e.key==="Enter"&&a&&a.tagName==="CODE")a.click();
else if(e.key==="/"&&a!==box){box.focus();e.preventDefault()}
else if(e.key==="ArrowDown"||e.key==="ArrowUp"){
const shown=rows.filter(r=>!r.hidden),at=shown.findIndex(r=>r.contains(a)),to=shown[at<0?0:at+(e.key==="ArrowDown"?1:-1)];
if(to){entry(to).focus();e.preventDefault()}else if(at===0)box.focus()}});
"#;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_allows_the_page_its_style_and_script() {
        for (directive, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let allowed = format!(
                "{directive} 'sha256-{}'",
                STANDARD.encode(Sha256::digest(text))
            );
            assert!(SECURITY_POLICY.contains(&allowed), "should hold: {allowed}");
        }
    }
}
