// Sorting, filtering and the choice of light or dark. The page can be read without it.
// Texts of the page are only ever moved or compared, never taken for markup.
(() => {
  "use strict";
  const root = document.documentElement;

  const theme = document.getElementById("theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => {
    theme.textContent = dark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", "Switch to " + (dark() ? "light" : "dark") + " colours");
  };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  const order = new Intl.Collator("en", { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.v;
    if (value === undefined) return cell.textContent.trim();
    return value === "" ? NaN : Number(value);
  };
  const compare = (a, b) => {
    if (typeof a === "string" || typeof b === "string") return order.compare(String(a), String(b));
    // What has no number stands last, whichever way the rest is sorted.
    if (Number.isNaN(a) || Number.isNaN(b)) return null;
    return a - b;
  };
  const sort = (table, head, column) => {
    const down = head.getAttribute("aria-sort") === (head.classList.contains("n") ? "descending" : "ascending");
    const sign = head.classList.contains("n") === down ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, place) => ({ row, place, key: key(row, column) }));
    rows.sort((a, b) => {
      const found = compare(a.key, b.key);
      if (found === null) return Number.isNaN(a.key) - Number.isNaN(b.key) || a.place - b.place;
      return sign * found || a.place - b.place;
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...rows.map((entry) => entry.row));
  };
  for (const table of document.querySelectorAll("table[data-sort]")) {
    Array.from(table.tHead.rows[0].cells, (head, column) => {
      if ("plain" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head, column));
    });
  }

  // Tables that are wider than the screen say so.
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) target.classList.toggle("sideways", target.scrollWidth > target.clientWidth + 1);
  });
  for (const box of document.querySelectorAll(".scroll")) widths.observe(box);

  for (const box of document.querySelectorAll(".filter")) {
    const table = document.getElementById(box.dataset.for);
    const input = box.querySelector("input");
    const select = box.querySelector("select");
    const output = box.querySelector("output");
    const rows = Array.from(table.tBodies[0].rows, (row) => ({
      row,
      text: row.textContent.toLowerCase(),
      choice: row.dataset.choice || row.cells[0].textContent.trim(),
    }));
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const choice = select ? select.value : "";
      let shown = 0;
      for (const entry of rows) {
        const fits = words.every((word) => entry.text.includes(word)) && (!choice || entry.choice === choice);
        entry.row.hidden = !fits;
        shown += fits;
      }
      output.textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
    };
    let waiting = 0;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(apply, 60);
    });
    if (select) select.addEventListener("change", apply);
    box.hidden = rows.length < 2;
    apply();
  }
})();
