"use strict";

const inOrder = new Intl.Collator("en", { numeric: true }).compare;

/** What a cell is sorted by: the number it begins with, or its text; null for an empty one. */
function valueOf(cell) {
  const text = cell.textContent.trim();
  if (!text) return null;
  const number = cell.tagName === "TD" ? parseFloat(text.replaceAll(",", "")) : NaN;
  return Number.isNaN(number) ? text : number;
}

/** Order of two values, empty ones last either way. */
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" && typeof b === "number" ? a - b : inOrder(String(a), String(b)));
}

/** A button in each head of a table sorts its rows by that column; again, the other way round. */
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.ariaSort !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
      rows.sort(([a], [b]) => compare(a, b, rising ? 1 : -1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

/** Rows that lack a word of the filter are hidden; the line beside it says how many are left. */
function makeFilter(input, rows) {
  const count = document.getElementById("count");
  const update = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  input.addEventListener("input", update);
  update();
}

/** A box of each column shows it or hides it. */
function makeChooser(box, table) {
  const update = () => {
    for (const row of table.rows) row.cells[box.value].hidden = !box.checked;
  };
  box.addEventListener("change", update);
  update();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
const compared = document.querySelector("#compared table");
if (compared) {
  makeFilter(document.getElementById("filter"), [...compared.tBodies[0].rows]);
  document.querySelectorAll("#columns input").forEach((box) => makeChooser(box, compared));
}
