// The page shows what /status says. Names come from peers: they are only ever set as text.
import { connectionsOf, keyOf, nodesOf, operationsOf, problemsOf, rates, reasons, state, total,
	troublesOf } from './model.js';

const main = document.getElementById('main');
const line = document.getElementById('state');
let status, before;

const number = n => n.toLocaleString('en', { maximumFractionDigits: n < 10 ? 1 : 0 });
const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
function bytes(n) {
	let i = 0;
	for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
	return `${number(n)} ${units[i]}`;
}
function duration(seconds) {
	const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
	const i = parts.findIndex(([size]) => seconds >= size);
	if (i < 0) return '0 s';
	const [size, unit] = parts[i];
	return `${Math.floor(seconds / size)} ${unit}`;
}

const svgNames = new Set(['svg', 'rect', 'path', 'text', 'title', 'g']);
// element makes an element with attributes and children; a child that is no node becomes text.
function element(name, attributes = {}, ...children) {
	const svg = svgNames.has(name) || attributes.svg;
	delete attributes.svg;
	const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', name)
		: document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) {
		if (value !== undefined && value !== '') e.setAttribute(key, value);
	}
	e.append(...children.filter(c => c !== undefined).map(c => c instanceof Node ? c : String(c)));
	return e;
}
const tile = (id, label, text, cls) => element('div', {},
	element('b', { id, class: cls }, text), element('span', {}, label));
const section = (title, ...children) => element('section', {},
	element('h2', {}, title), ...children);
function table(heads, rows) {
	return element('table', {},
		element('thead', {}, element('tr', {},
			...heads.map(h => element('th', { scope: 'col' }, h)))),
		element('tbody', {}, ...rows.map(row => element('tr', {},
			...row.map(cell => element('td', {}, cell))))));
}
const lost = n => element('span', { class: n > 0 ? 'bad' : '' }, number(n));
const link = node => element('a', { href: '#node=' + encodeURIComponent(node.id) }, node.name);

function tiles(s, r) {
	const all = [];
	if (s.forwarder) {
		all.push(tile('events-in', 'events received a second', number(r.eventsIn)),
			tile('events-out', 'events sent a second', number(r.eventsOut)),
			tile('events-received', 'events received', number(s.forwarder.received.messages)),
			tile('events-lost', 'events lost', ...lossText(r.eventsLost)));
	}
	if (s.logger) {
		all.push(tile('records-in', 'log records a second', number(r.records)),
			tile('records-received', 'log records received', number(s.logger.received.records)),
			tile('records-lost', 'log records lost', ...lossText(r.recordsLost)));
	}
	if (s.memory?.limit_bytes) {
		all.push(tile('memory', `of ${bytes(s.memory.limit_bytes)} memory budget`,
			bytes(s.memory.used_bytes), s.memory.waiting > 0 ? 'warn' : ''));
	}
	return element('div', { class: 'tiles' }, ...all);
}
const lossText = n => [number(n), n > 0 ? 'bad' : 'good'];

// short returns a name as it fits into a box of the picture.
const short = name => name.length > 20 ? name.slice(0, 19) + '…' : name;

// picture draws the nodes at the left, what this process does in the middle, and its sinks at the
// right.
function picture(s, nodes) {
	const high = 44, gap = 12, top = 10;
	const boxes = [];
	if (s.forwarder) {
		boxes.push({ name: 'broker', note: `${number(s.forwarder.topics)} topics`, to: [],
			part: 'broker' });
	}
	const sinks = (s.logger?.sinks ?? []).map(x => {
		const wrong = problemsOf(s, x).length > 0;
		return { name: x.sink, part: 'sink', state: wrong ? 'bad' : x.spooling ? 'warn' : '',
			note: x.spooling ? `spool ${bytes(x.spool?.bytes ?? 0)}`
				: wrong ? `${number(x.queued.records)} wait` : `${number(x.written.records)} written` };
	});
	if (s.logger) {
		boxes.push({ name: 'logger', note: `${number(s.logger.received.records)} records`, to: sinks,
			part: 'logger' });
	}
	if (s.balance) boxes.push({ name: 'balance', note: '', to: [], part: 'balance' });
	const shown = nodes.slice(0, 40);
	const rows = Math.max(shown.length, boxes.length, sinks.length, 1);
	const height = top * 2 + rows * (high + gap);
	const at = (i, n) => top + (height - 2 * top) * (i + .5) / n - high / 2;
	const links = [], drawn = [];
	const box = (x, y, b) => {
		const g = element('g', {}, element('title', {}, b.name),
			element('rect', { x, y, width: 190, height: high, rx: 6, class: b.state }),
			element('text', { x: x + 10, y: y + 18 }, short(b.name)),
			element('text', { x: x + 10, y: y + 35, class: 'dim' }, b.note));
		drawn.push(b.href ? element('a', { svg: true, href: b.href }, g) : g);
	};
	const curve = (x1, y1, x2, y2, cls) => links.push(element('path', { class: cls,
		d: `M${x1} ${y1 + high / 2}C${(x1 + x2) / 2} ${y1 + high / 2} ${(x1 + x2) / 2} ${y2 + high / 2} ${x2} ${y2 + high / 2}` }));
	boxes.forEach((b, i) => {
		b.y = at(i, boxes.length);
		box(355, b.y, b);
		b.to.forEach((x, j) => {
			const y = at(j, b.to.length);
			box(700, y, x);
			curve(545, b.y, 700, y, x.state);
		});
	});
	shown.forEach((node, i) => {
		const y = at(i, shown.length);
		box(10, y, { name: node.name, state: node.state, href: '#node=' + encodeURIComponent(node.id),
			note: `${number(node.inRate)} in/s, ${number(node.outRate)} out/s` });
		for (const b of boxes) {
			const peers = node.peers.filter(p => p.part === b.part);
			if (peers.length) curve(200, y, 355, b.y, state(peers) || (node.inRate + node.outRate > 0 ? '' : 'idle'));
		}
	});
	return section('Cluster', element('svg', { viewBox: `0 0 900 ${height}`, role: 'img',
		'aria-label': 'nodes, broker, logger and sinks' }, ...links, ...drawn),
		nodes.length > shown.length ? element('p', {}, `and ${nodes.length - shown.length} more nodes`) : undefined);
}

function overview(s) {
	const r = rates(s, before);
	const nodes = nodesOf(s, before);
	const troubles = troublesOf(s, nodes);
	const parts = [tiles(s, r)];
	if (troubles.length) {
		parts.push(section('Look at this first', element('ul', { id: 'troubles' },
			...troubles.map(text => element('li', { class: 'bad' }, text)))));
	}
	parts.push(picture(s, nodes));
	if (nodes.length) {
		parts.push(section('Nodes, the slowest first', table(
			['node', 'to it /s', 'from it /s', 'waits for it', 'bytes', 'lost', 'connections'],
			nodes.map(n => [link(n), number(n.outRate), number(n.inRate), number(n.queue),
				bytes(n.queueBytes), lost(n.lost), n.peers.length]))));
	}
	if (s.forwarder?.by_topic) {
		parts.push(section('Events by topic', table(['topic', 'events', 'a second', 'bytes', 'unmatched'],
			Object.entries(s.forwarder.by_topic).sort((a, b) => b[1].messages - a[1].messages)
				.map(([topic, c]) => [topic || '(empty)', number(c.messages),
					number(r.topics[topic] ?? 0), bytes(c.bytes), number(c.unmatched)]))));
	}
	parts.push(...webSocket(s.forwarder?.websocket, r), ...stores(s.store, r));
	for (const sink of s.logger?.sinks ?? []) parts.push(sinkSection(s, r, sink));
	if (s.logger?.sinks.length) {
		parts.push(section('Sinks and spools', table(
			['sink', 'written', 'waiting', 'in memory', 'spool', 'batches in it', 'set aside', 'lost'],
			s.logger.sinks.map(x => [x.sink, number(x.written.records), number(x.queued.records),
				bytes(x.queue_bytes), x.spool ? bytes(x.spool.bytes) : 'none',
				number(x.spool?.messages ?? 0), lost(x.spool?.set_aside ?? 0),
				lost(total(x.dropped, 'records'))]))));
	}
	const drops = reasons(s);
	if (drops.length) {
		parts.push(section('Lost and refused, by reason', table(['where', 'reason', 'number'],
			drops.map(([where, reason, n]) => [where, reason, lost(n)]))));
	}
	return [...parts, ...security(s)];
}

// webSocket shows the clients of the gateway.
function webSocket(w, r) {
	if (!w) return [];
	return [section('WebSocket clients',
		element('p', {}, `Topics: ${number(w.topics)}. Events that wait: ${number(w.queued)}, ` +
			`${bytes(w.queued_bytes)}.`),
		table(['client', 'application', 'connections', 'to it', 'a second', 'from it', 'held back',
			'lost'], w.by_client.map(c => [c.client || 'anybody', c.application, number(c.connections),
				number(c.events_out), number(r.clients[keyOf(c)]), number(c.messages_in),
				number(c.throttled), lost(c.dropped)])))];
}

// stores shows the key-value stores of this process, and its clones of others.
function stores(x, r) {
	const parts = [];
	if (x?.stores.length) {
		const doors = [`Requests over HTTP: ${number(total(x.http.requests))}`,
			`watches: ${number(x.http.watches)}`];
		if (x.redis) doors.push(`clients of Redis: ${number(x.redis.clients)}`);
		parts.push(section('Stores', ...x.stores.filter(st => st.failure).map(st =>
			element('p', { class: 'bad' }, `${st.name} is not saved: ${st.failure}`)),
			element('p', {}, doors.join(', ') + '.'),
			table(['store', 'keys', 'memory', 'operations', 'a second', 'reads', 'expired',
				'not saved', 'clones', 'changes behind'], x.stores.map(st => [st.name, number(st.keys), bytes(st.bytes),
				number(operationsOf(st)), number(r.stores[st.name]), number(st.reads),
				number(st.expired), bytes(st.pending_bytes), number(st.clones),
				number(st.clones_behind)]))));
	}
	if (x?.clones.length) {
		parts.push(section('Clones of stores', table(
			['store', 'keys', 'changes behind', 'state', 'master'],
			x.clones.map(c => [c.name, number(c.keys), number(c.behind), element('span',
				{ class: c.stale ? 'bad' : 'good' }, c.stale ? 'stale' : 'current'),
				c.master ?? 'none found']))));
	}
	return parts;
}

// sinkSection shows the logs of one sink, and what is wrong with it.
function sinkSection(s, r, sink) {
	return section(`Logs to ${sink.sink}`, ...problemsOf(s, sink).map(p => element('p', { class: 'bad' }, p)),
		sink.spooling ? element('p', { class: 'warn' }, 'batches go through the spool') : undefined,
		table(['log', 'records', 'a second', 'written', 'waiting', 'lost'],
			sink.paths.map(p => [p.path, number(p.received.records),
				number(r.paths[`${sink.sink} ${p.stream} ${p.path}`] ?? 0),
				number(p.written.records), number(p.queued.records),
				lost(total(p.dropped, 'records'))])));
}

// security shows who may do what.
function security(s) {
	const x = s.security;
	const parts = [section('Security', table(['', ''], [['mechanism', x.mechanism],
		['clients', number(x.clients ?? 0)], ['failed reloads', lost(x.failed_reloads ?? 0)]]))];
	const denied = s.forwarder?.denied ?? {};
	const topics = list => list === null ? 'all' : list.length ? list.map(t => t || '(all)').join(', ') : 'nothing';
	if (x.permissions?.length) {
		const shown = x.permissions.length < x.clients ? `, the first ${x.permissions.length}` : '';
		parts.push(section(`Who may do what${shown}`, table(
			['client', 'connections', 'may publish', 'may subscribe', 'may send logs', 'denied'],
			x.permissions.map(c => [c.client, number(connectionsOf(s, c.client)), topics(c.publish),
				topics(c.subscribe), c.logs ? 'yes' : 'no',
				lost((denied[c.client]?.messages ?? 0) + (denied[c.client]?.subscriptions ?? 0))]))));
	}
	return parts;
}

// details shows all that is known of one node.
function details(s, id) {
	const node = nodesOf(s, before).find(n => n.id === id);
	if (!node) return [section('Node', element('p', {}, `${id} is not connected. `, element('a', { href: '#' }, 'All nodes')))];
	return [section(node.name, element('p', {}, node.id, ' ', element('a', { href: '#' }, 'All nodes'))),
		...node.peers.map(p => section(`${p.part}: ${p.type} at ${p.address}`, table(['', ''],
			flatten(p).map(([k, v]) => [k, typeof v === 'number' ? number(v) : v]))))];
}
function flatten(o, prefix = '') {
	return Object.entries(o).flatMap(([k, v]) => v && typeof v === 'object'
		? flatten(v, `${prefix}${k}.`) : [[prefix + k, v]]);
}

function show() {
	if (!status) return;
	line.className = status.ready ? '' : 'bad';
	line.textContent = `${status.version}, up for ${duration(status.uptime_seconds)}, ` +
		(status.ready ? 'ready' : `not ready: ${status.not_ready}`);
	const id = new URLSearchParams(location.hash.slice(1)).get('node');
	const focused = document.activeElement?.getAttribute?.('href');
	main.replaceChildren(...(id === null ? overview(status) : details(status, id)));
	if (focused) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
function update(next) {
	[before, status] = [status, next];
	show();
}
addEventListener('hashchange', show);
const stream = new EventSource('/stream');
stream.onmessage = e => update(JSON.parse(e.data));
stream.onerror = () => {
	line.className = 'bad';
	line.textContent = 'no connection to zmtpd; the numbers are the last ones';
};
