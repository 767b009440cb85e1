// Sorts the table of models by a column. Without it the rows stand as the report sorted them.
for (const head of document.querySelectorAll("th[data-sorts]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.children[head.cellIndex].dataset.key;
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      const both = a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
      const order = both ? a - b : a.localeCompare(b);
      return ascending ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
