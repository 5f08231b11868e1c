'use strict';
// Every report: tables that sort, commands that copy.
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const header = button.parentElement;
    const table = header.closest('table');
    const column = header.cellIndex;
    const isAscending = header.getAttribute('aria-sort') !== 'ascending';
    const isNumber = header.classList.contains('number');
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) =>
      isNumber ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b), 'en');
    const rows = [...table.tBodies[0].rows].sort(compare);
    if (!isAscending) rows.reverse();
    table.tBodies[0].append(...rows);
    for (const other of table.querySelectorAll('th')) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', isAscending ? 'ascending' : 'descending');
  });
}
for (const button of document.querySelectorAll('.command button')) {
  button.addEventListener('click', async () => {
    const code = button.parentElement.querySelector('code');
    let isCopied = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      isCopied = true;
    } catch {
      // Pages opened from a disk may lack the clipboard or the right to it: the older way, which
      // copies what is selected, and which leaves it selected for the reader if that fails too.
      getSelection().selectAllChildren(code);
      isCopied = document.execCommand('copy');
    }
    button.textContent = isCopied ? 'Copied' : 'Press Ctrl+C';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
}
