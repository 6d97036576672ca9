// What the page derives from two answers of /status: rates, nodes, and who is slow.

// total adds up counts by reason, which are numbers or objects with a field.
export const total = (byReason, field) => Object.values(byReason ?? {})
	.reduce((n, c) => n + (typeof c === 'number' ? c : c[field]), 0);

// perSecond returns the rate of a counter between two answers.
function perSecond(now, before, counter) {
	if (!before || before.started !== now.started) return 0;
	const seconds = now.uptime_seconds - before.uptime_seconds;
	const n = (counter(now) ?? 0) - (counter(before) ?? 0);
	return seconds > 0 && n > 0 ? n / seconds : 0;
}

export function rates(s, before) {
	const r = { topics: {}, paths: {}, clients: {}, stores: {}, eventsLost: 0, recordsLost: 0 };
	r.eventsIn = perSecond(s, before, x => x.forwarder?.received.messages);
	r.eventsOut = perSecond(s, before, x => x.forwarder?.xpub.sent.messages);
	r.records = perSecond(s, before, x => x.logger?.received.records);
	r.eventsLost = total(s.forwarder?.account.dropped);
	for (const topic of Object.keys(s.forwarder?.by_topic ?? {})) {
		r.topics[topic] = perSecond(s, before, x => x.forwarder?.by_topic?.[topic]?.messages);
	}
	for (const sink of s.logger?.sinks ?? []) {
		r.recordsLost += total(sink.dropped, 'records');
		for (const p of sink.paths) {
			r.paths[`${sink.sink} ${p.stream} ${p.path}`] = perSecond(s, before, x =>
				x.logger?.sinks.find(y => y.sink === sink.sink)?.paths
					.find(q => q.path === p.path && q.stream === p.stream)?.received.records);
		}
	}
	for (const c of s.forwarder?.websocket?.by_client ?? []) {
		r.clients[keyOf(c)] = perSecond(s, before, x => x.forwarder?.websocket?.by_client
			.find(d => keyOf(d) === keyOf(c))?.events_out);
	}
	for (const st of s.store?.stores ?? []) {
		r.stores[st.name] = perSecond(s, before, x => {
			const y = x.store?.stores.find(z => z.name === st.name);
			return y && operationsOf(y);
		});
	}
	return r;
}

// keyOf tells the counters of a WebSocket client with an application from others.
export const keyOf = c => JSON.stringify([c.client, c.application]);

// operationsOf counts reads and changes of a store.
export const operationsOf = st => st.reads + total(st.operations);

// nameOf shortens the id of a Zeek node, zeromq_NAME_HOST_PID_UNIQUE.
export function nameOf(id) {
	const m = /^zeromq_(.+)_[^_]+_\d+_[^_]+$/.exec(id);
	return m ? m[1] : id;
}

// peersOf lists all connections with the part of the process to which they belong.
function peersOf(s) {
	const of = (part, socket) => (socket?.peers ?? []).map(p => ({ part, ...p }));
	return [...of('broker', s.forwarder?.xsub), ...of('broker', s.forwarder?.xpub),
		...of('logger', s.logger?.pull), ...of('balance', s.balance?.pull)];
}

// connectionsOf counts the connections of an authenticated client.
export const connectionsOf = (s, client) => peersOf(s).filter(p => p.client === client).length;

// reasons lists what was lost or refused: where, why, how often.
export function reasons(s) {
	const rows = [];
	const add = (where, byReason, field) => {
		for (const [reason, n] of Object.entries(byReason ?? {})) {
			rows.push([where, reason, typeof n === 'number' ? n : n[field]]);
		}
	};
	add('events for subscribers', s.forwarder?.account.dropped);
	for (const [name, socket] of [['xsub', s.forwarder?.xsub], ['xpub', s.forwarder?.xpub],
		['pull', s.logger?.pull ?? s.balance?.pull]]) {
		add(`handshakes at ${name}`, socket?.handshake_failures);
	}
	add('events for WebSocket clients', s.forwarder?.websocket?.dropped);
	add('WebSocket clients', s.forwarder?.websocket?.refused);
	add('messages to the logger', s.logger?.refused, 'messages');
	for (const sink of s.logger?.sinks ?? []) add(`records for ${sink.sink}`, sink.dropped, 'records');
	return rows.sort((a, b) => b[2] - a[2]);
}

// problemsOf lists what is wrong with a sink of the logger.
export function problemsOf(s, sink) {
	const problems = [];
	if (sink.nodes_wait) problems.push(`nodes wait: ${sink.nodes_wait}`);
	const last = sink.sink === 'files' && s.logger.files?.last_error;
	if (last) problems.push(`last error, at ${last.time}: ${last.error}`);
	if (sink.sink === 'kafka' && s.logger.kafka?.error) problems.push(s.logger.kafka.error);
	return problems;
}

// troublesOf lists what does not work now, or was lost, the worst first.
export function troublesOf(s, nodes) {
	const all = [];
	if (!s.ready) all.push(`not ready: ${s.not_ready}`);
	for (const sink of s.logger?.sinks ?? []) {
		for (const p of problemsOf(s, sink)) all.push(`sink ${sink.sink}: ${p}`);
	}
	for (const st of s.store?.stores ?? []) {
		if (st.failure) all.push(`store ${st.name} is not saved: ${st.failure}`);
	}
	for (const c of s.store?.clones ?? []) {
		if (c.stale) all.push(`clone of store ${c.name} is stale: its master was not heard of`);
	}
	for (const n of nodes.filter(n => n.state === 'bad')) {
		all.push(`node ${n.name} is slow: ${n.queue} messages wait for it, ${n.lost} were lost`);
	}
	if (s.memory?.waiting > 0) {
		all.push(`memory is exhausted: ${s.memory.waiting} peers wait`);
	}
	return all;
}

const lostOf = p => total(p.account?.dropped ?? p.dropped);

// state says how connections are: bad when one does not keep up now, warn when much waits or
// something was lost.
export function state(peers) {
	if (peers.some(p => p.slow_since)) return 'bad';
	return peers.some(p => p.queue > 100 || lostOf(p) > 0) ? 'warn' : '';
}

// nodesOf groups the connections by node, the slowest first.
export function nodesOf(s, before) {
	const nodes = new Map();
	const earlier = new Map(before ? peersOf(before).map(p => [p.part + p.address, p]) : []);
	for (const p of peersOf(s)) {
		const id = p.node || p.client || p.address;
		const n = nodes.get(id) ?? { id, name: nameOf(id), peers: [], queue: 0, queueBytes: 0,
			lost: 0, inRate: 0, outRate: 0 };
		nodes.set(id, n);
		const old = earlier.get(p.part + p.address);
		n.peers.push(p);
		n.queue += p.queue;
		n.queueBytes += p.queue_bytes;
		n.lost += lostOf(p);
		if (old) {
			const rate = f => perSecond({ ...s, n: f(p) }, { ...before, n: f(old) }, x => x.n);
			n.inRate += rate(x => x.received.messages);
			n.outRate += rate(x => x.sent.messages);
		}
	}
	for (const n of nodes.values()) n.state = state(n.peers);
	return [...nodes.values()].sort((a, b) => b.queue - a.queue || b.lost - a.lost ||
		a.name.localeCompare(b.name, 'en', { numeric: true }));
}
