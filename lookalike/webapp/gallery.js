// The gallery's script. Data become text and attributes only, never markup. Streamlit calls the function again
// on the same elements whenever the data change, so handlers are assigned, not added.

const STEPS = [64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024];

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The smallest step that is at least `css` px at this screen's resolution, at most `most`. */
function pixels(css, most) {
  const wanted = css * (window.devicePixelRatio || 1);
  const fitting = STEPS.filter((step) => step <= most);
  return fitting.find((step) => step >= wanted) ?? fitting.at(-1) ?? most;
}

function thumbnail(data, id, size) {
  return `${data.api}/v1/objects/${encodeURIComponent(id)}/thumbnail.jpg?size=${size}&v=${encodeURIComponent(data.revision)}`;
}

/** A link to another state of the page: a plain click asks Streamlit, any other opens its address. */
function link(parameters, className, pick) {
  const anchor = make("a", className);
  anchor.setAttribute("href", "?" + new URLSearchParams(parameters));
  anchor.onclick = (event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    anchor.classList.add("chosen");
    pick(parameters);
  };
  return anchor;
}

function drawTrail(data, pick) {
  const trail = make("nav", "trail");
  trail.setAttribute("aria-label", "How you got here");
  for (const step of data.trail) {
    const anchor = link(step.link, "step", pick);
    anchor.setAttribute("aria-label", `Back to ${step.id}`);
    if (data.pictures) {
      const image = make("img");
      image.alt = "";
      image.src = thumbnail(data, step.id, 96);
      anchor.append(image);
    } else anchor.classList.add("plain");
    anchor.append(make("span", "", step.id));
    trail.append(anchor, make("span", "arrow", "›"));
  }
  if (data.trail.length) {
    const here = make("span", "here", data.query.id);
    here.setAttribute("aria-current", "page");
    trail.append(here);
  }
  return trail;
}

function drawQuery(data) {
  const section = make("section", "query");
  section.setAttribute("aria-label", `Object ${data.query.id}`);
  if (data.pictures) {
    const frame = make("div", data.query.aimed ? "frame aimed" : "frame");
    const image = make("img");
    image.alt = `Picture of ${data.query.id}`;
    frame.append(image);
    section.append(frame);
  } else section.classList.add("plain");
  const facts = make("dl", "facts");
  for (const fact of data.query.facts) {
    const row = make("div");
    row.title = fact.description;
    const value = make("dd", "", fact.value);
    if (fact.unit) value.append(make("span", "unit", fact.unit));
    const name = make("dt");  // long names of columns may be broken after _
    for (const part of fact.name.split(/(?<=_)/)) name.append(part, document.createElement("wbr"));
    row.append(name, value);
    facts.append(row);
  }
  section.append(make("h2", "", data.query.id), facts);
  return section;
}

function drawTile(tile, pick, pictures) {
  const anchor = link(tile.link, pictures ? "tile" : "tile card", pick);
  anchor.setAttribute("aria-label", tile.label);
  anchor.title = tile.details;
  anchor.dataset.id = tile.id;
  if (!pictures) {
    fillCard(anchor, tile);
    return anchor;
  }
  const caption = make("span", "caption");
  if (tile.score) caption.append(make("b", "", tile.score));
  else caption.append(make("span", "name", tile.id));
  if (tile.top) caption.append(make("span", "top", tile.top));
  if (tile.value) caption.append(make("span", "value", tile.value));
  anchor.append(make("span", "picture"), caption);
  return anchor;
}

/** What is known of an object nothing is stored of to draw: id, similarity and its first columns. */
function fillCard(anchor, tile) {
  anchor.append(make("span", "name", tile.id));
  if (tile.score) anchor.append(make("b", "", tile.score));
  for (const fact of tile.facts) {
    const line = make("span", "fact");
    line.append(make("span", "what", fact.name), make("span", "", fact.value));
    anchor.append(line);
  }
}

function drawResults(data, pick) {
  const section = make("section", "results");
  const head = make("header");
  head.append(make("h3", "", data.title));
  const notes = make("div", "notes");
  for (const note of data.notes) notes.append(make("p", "", note));
  head.append(notes);
  const trouble = make("p", "trouble");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  const cards = data.pictures ? "" : " cards";
  const grid = make("div", `grid${cards} ${data.tiles.length <= 25 ? "few" : data.tiles.length <= 49 ? "some" : "many"}`);
  grid.setAttribute("role", "list");
  for (const tile of data.tiles) {
    const item = make("div", "item");
    item.setAttribute("role", "listitem");
    item.append(drawTile(tile, pick, data.pictures));
    grid.append(item);
  }
  grid.onkeydown = (event) => moveFocus(event, grid);
  section.append(head, trouble, grid);
  if (!data.tiles.length) section.append(make("p", "none", "There is nothing to show here."));
  if (data.pages.length) {
    const pages = make("nav", "pages");
    pages.setAttribute("aria-label", "More results");
    for (const page of data.pages) {
      const anchor = link(page.link, "page", pick);
      anchor.textContent = page.text;
      pages.append(anchor);
    }
    section.append(pages);
  }
  return section;
}

/** Arrow keys, Home and End move between the pictures; Enter follows the link by itself. */
function moveFocus(event, grid) {
  const tiles = [...grid.querySelectorAll(".tile")];
  const at = tiles.indexOf(event.target);
  if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const targets = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at - across,
    ArrowDown: at + across,
    Home: 0,
    End: tiles.length - 1,
  };
  if (!(event.key in targets)) return;
  event.preventDefault();
  tiles[targets[event.key]]?.focus();
}

function complain(root, data) {
  const trouble = root.querySelector(".trouble");
  if (!trouble) return;
  trouble.textContent =
    `The pictures could not be loaded from ${data.api}. Check that the service runs and that this browser reaches ` +
    "that address.";
  trouble.hidden = false;
}

/** Fetch the pictures of the grid, many on one sheet, as sharp as this screen shows them, and lay them out. */
async function paint(root, data, generation) {
  const pictures = [...root.querySelectorAll(".picture")];
  if (!pictures.length) return;
  const perSheet = Math.min(data.sheet.objects, pictures.length);
  const most = Math.min(data.sheet.picture, Math.floor(Math.sqrt(data.sheet.pixels / (perSheet + Math.sqrt(perSheet)))));
  const size = pixels(pictures[0].clientWidth, most);
  if (root.sheetSize >= size && root.sheetGeneration === generation) return;
  root.sheetSize = size;
  root.sheetGeneration = generation;
  const sheets = [];
  for (let start = 0; start < pictures.length; start += perSheet) {
    const wanted = () => root.generation === generation && root.sheetSize === size;
    sheets.push(paintSheet(data, pictures.slice(start, start + perSheet), start, size, wanted));
  }
  try {
    await Promise.all(sheets);
    if (root.generation !== generation) return;
    root.dataset.painted = String(generation);
    root.querySelector(".trouble").hidden = true;
  } catch {
    if (root.generation !== generation) return;
    if (root.sheetSize === size) root.sheetSize = 0; // the next change of size asks again
    complain(root, data);
  }
}

async function paintSheet(data, pictures, start, size, wanted) {
  const columns = Math.ceil(Math.sqrt(pictures.length));
  const rows = Math.ceil(pictures.length / columns);
  const ids = data.tiles.slice(start, start + pictures.length).map((tile) => encodeURIComponent(tile.id));
  const address =
    `${data.api}/v1/contact-sheet.jpg?ids=${ids.join(",")}&size=${size}&columns=${columns}` +
    `&v=${encodeURIComponent(data.revision)}`;
  const sheet = new Image();
  sheet.src = address;
  await sheet.decode();
  if (!wanted()) return; // a sharper one was asked for meanwhile
  pictures.forEach((picture, place) => {
    const column = place % columns;
    const row = Math.floor(place / columns);
    picture.style.backgroundImage = `url("${address}")`;
    picture.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    const left = columns > 1 ? (column / (columns - 1)) * 100 : 0;
    const top = rows > 1 ? (row / (rows - 1)) * 100 : 0;
    picture.style.backgroundPosition = `${left}% ${top}%`;
    picture.classList.add("shown");
  });
}

function paintQuery(root, data) {
  const image = root.querySelector(".frame img");
  if (!image) return;
  const size = pixels(image.parentElement.clientWidth, data.sheet.picture);
  if (root.querySize >= size && image.getAttribute("src")) return;
  root.querySize = size;
  image.onerror = () => complain(root, data);
  image.src = thumbnail(data, data.query.id, size);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".gallery");
  const text = JSON.stringify(data);
  if (!root || root.drawn === text) return;
  const hadFocus = root.contains(parentElement.activeElement ?? document.activeElement);
  const moved = root.drawn !== undefined;
  root.drawn = text;
  root.generation = (root.generation ?? 0) + 1;
  root.querySize = 0;
  clearTimeout(root.waiting);

  const pick = (parameters) => {
    root.setAttribute("aria-busy", "true");
    root.waiting = setTimeout(() => root.removeAttribute("aria-busy"), 8000);
    setTriggerValue("picked", parameters);
  };

  const body = make("div", data.query ? "body" : "body start");
  if (data.query) body.append(drawQuery(data));
  body.append(drawResults(data, pick));
  const footer = make("footer", "about");
  for (const line of data.about) footer.append(make("p", "", line));
  const status = make("p", "unseen", data.query ? `${data.tiles.length} ${data.tiles.length === 1 ? "object" : "objects"} like ${data.query.id}` : data.title);
  status.setAttribute("role", "status");
  root.replaceChildren(...(data.trail.length ? [drawTrail(data, pick)] : []), body, footer, status);
  root.removeAttribute("aria-busy");
  root.dataset.query = data.query ? data.query.id : "";
  root.dataset.drawn = String(root.generation);

  if (hadFocus) root.querySelector(".tile")?.focus({ preventScroll: true });
  if (moved) (parentElement.host ?? root).closest("[data-testid='stMain']")?.scrollTo(0, 0);

  const fill = () => {
    paintQuery(root, data);
    paint(root, data, root.generation);
  };
  fill();
  root.observer?.disconnect();
  root.observer = new ResizeObserver(() => {
    clearTimeout(root.resized);
    root.resized = setTimeout(fill, 150); // a larger picture than before may need more pixels
  });
  root.observer.observe(root);
  return () => root.observer?.disconnect();
}
