'use strict';
// The report of a search: the panel of a trial at once, the interactive chart when Plotly is there.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const panel = document.getElementById('panel');
  const chart = document.getElementById('qwave-front');
  if (!panel || !chart) return;
  const { shared, ui, order, points } = read('qwave-points');
  const slot = (name) => panel.querySelector(`[data-slot="${name}"]`);
  let opener = null;
  let current = null;
  let figure = null;

  const fillList = (list, settings) => {
    list.replaceChildren();
    for (const [key, value] of Object.entries(settings)) {
      const [name, content] = [document.createElement('dt'), document.createElement('dd')];
      name.textContent = key;
      content.textContent = value;
      list.append(name, content);
    }
  };

  const show = (name, text) => {
    slot(name).textContent = text;
    const part = panel.querySelector(`[data-part="${name}"]`);
    if (part) part.hidden = !text;
  };

  const mark = () => {
    for (const row of document.querySelectorAll('tr[data-point]')) {
      row.classList.toggle('chosen', Number(row.dataset.point) === current);
    }
    if (!figure) return;
    const point = points[current];
    const place = point ? { x: [[point.x]], y: [[point.y]] } : { x: [[]], y: [[]] };
    Plotly.restyle(chart, place, [figure.chosen]);
  };

  const open = (index, from) => {
    const point = points[index];
    if (!point) return;
    if (from) opener = from;
    current = index;
    document.getElementById('panel-title').textContent = `Trial ${point.number}: ${point.title}`;
    slot('facts').replaceChildren(...point.facts.map((fact) => {
      const item = document.createElement('li');
      item.textContent = fact;
      return item;
    }));
    fillList(slot('settings'), point.settings);
    fillList(slot('shared'), shared);
    panel.querySelector('[data-part="shared"]').hidden = !Object.keys(shared).length;
    for (const [name, text] of Object.entries({
      ui, address: point.address, export: point.export, digest: point.digest, run: point.run,
    })) show(name, text);
    if (point.address) slot('address').href = point.address;
    panel.hidden = false;
    document.body.classList.add('has-panel');
    panel.scrollTop = 0;
    panel.focus({ preventScroll: true });
    mark();
  };

  const close = () => {
    if (panel.hidden) return;
    panel.hidden = true;
    document.body.classList.remove('has-panel');
    current = null;
    mark();
    if (opener) opener.focus({ preventScroll: true });
  };

  panel.querySelector('[data-close]').addEventListener('click', close);
  for (const button of panel.querySelectorAll('[data-step]')) {
    button.addEventListener('click', () => {
      const place = order.indexOf(current) + Number(button.dataset.step);
      if (place in order) open(order[place]);
    });
  }
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
  });
  for (const row of document.querySelectorAll('tr[data-point]')) {
    const choose = () => open(Number(row.dataset.point), row);
    row.addEventListener('click', () => { if (getSelection().isCollapsed) choose(); });
    row.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose();
    });
  }

  // Colours are names of the page's style, which knows the reader's colour scheme.
  const coloured = (value, key = '') => {
    if (typeof value === 'string' && value.startsWith('@') && /color$/.test(key)) {
      return getComputedStyle(document.documentElement)
        .getPropertyValue(`--${value.slice(1)}`).trim();
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item));
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, k)]));
  };

  const narrow = matchMedia('(max-width: 640px)');
  const dark = matchMedia('(prefers-color-scheme: dark)');

  const set = (layout, path, value) => {
    const keys = path.split('.');
    const last = keys.pop();
    const owner = keys.reduce((object, key) => object[key], layout);
    owner[last] = value;
  };

  const draw = async () => {
    const { data, layout } = coloured(figure);
    if (narrow.matches) {
      for (const [path, value] of Object.entries(figure.narrow)) set(layout, path, value);
    }
    await Plotly.react(chart, data, layout, {
      displaylogo: false,
      displayModeBar: narrow.matches ? false : 'hover',
      // A full list, for by default there is a button that uploads the chart.
      modeBarButtons: [
        ['zoom2d', 'pan2d', 'zoomIn2d', 'zoomOut2d', 'autoScale2d', 'resetScale2d'], ['toImage'],
      ],
    });
    mark();
  };

  const start = async () => {
    const source = document.getElementById('qwave-plotly');
    const script = document.createElement('script');
    script.textContent = source.textContent;
    source.remove();
    document.head.append(script);
    script.remove();
    figure = read('qwave-figure');
    chart.hidden = false;
    await draw();
    // From here on the picture is for print only.
    chart.parentElement.classList.add('is-live');
    chart.on('plotly_click', (event) => {
      const index = event.points[0] && event.points[0].customdata;
      if (Number.isInteger(index)) open(index, chart);
    });
    chart.tabIndex = -1;
    narrow.addEventListener('change', draw);
    dark.addEventListener('change', draw);
    // Also when the panel takes or gives back its room, which is no change of the window's size.
    new ResizeObserver(() => requestAnimationFrame(() => {
      if (chart.offsetWidth) Plotly.Plots.resize(chart);
    })).observe(chart);
  };

  // Plotly stands as plain text at the end of the page: nothing waits for its 4.8 MB, which are
  // compiled once the headline, the picture and the table have been painted.
  document.addEventListener('DOMContentLoaded', () => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(start)));
  });
})();
