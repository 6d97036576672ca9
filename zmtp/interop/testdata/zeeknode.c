/* A node as Zeek's, on libzmq itself: an XPUB and an XSUB, both connected to a broker. Subscriptions are messages that
 * begin with a byte 1 or 0. Messages have four parts, each given to zmq_send of its own, without waiting.
 *
 *   zeeknode node XSUB XPUB NAME COUNT NODE...   publishes COUNT messages, and expects as many of each NODE, in order.
 *   zeeknode flood XSUB COUNT SIZE               publishes COUNT messages of SIZE bytes, and drops what there is no room for.
 *
 * It writes one line, a JSON object, when it is done with publishing (flood) or with everything (node). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { PATIENCE = 60000, PARTS = 4, MAX_NODES = 16 };

static void die(const char *format, ...)
{
	va_list a;
	va_start(a, format);
	vfprintf(stderr, format, a);
	va_end(a);
	fprintf(stderr, ": %s\n", zmq_strerror(errno));
	exit(1);
}

static void set(void *socket, int option, int value)
{
	if (zmq_setsockopt(socket, option, &value, sizeof value) != 0)
		die("option %d", option);
}

static void *connected(void *context, int type, const char *endpoint)
{
	void *s = zmq_socket(context, type);
	if (!s)
		die("zmq_socket");
	set(s, ZMQ_LINGER, 500);
	set(s, ZMQ_RCVTIMEO, PATIENCE);
	if (type == ZMQ_XPUB) {
		set(s, ZMQ_XPUB_VERBOSE, 1);
		set(s, ZMQ_XPUB_NODROP, 1);
		set(s, ZMQ_SNDHWM, 1000);
	}
	if (zmq_connect(s, endpoint) != 0)
		die("connect to %s", endpoint);
	return s;
}

static void subscribe(void *xsub, char on, const char *topic)
{
	char b[256];
	int n = snprintf(b, sizeof b, "%c%s", on, topic);
	if (zmq_send(xsub, b, n, 0) != n)
		die("subscribe %s", topic);
}

/* Waits until the broker has told of a subscription. */
static void await(void *xpub, const char *topic)
{
	char b[256];
	for (;;) {
		int n = zmq_recv(xpub, b, sizeof b, 0);
		if (n < 0)
			die("waiting for the subscription of %s", topic);
		if (n == (int)strlen(topic) + 1 && b[0] == 1 && memcmp(b + 1, topic, n - 1) == 0)
			return;
	}
}

/* Sends one message part by part; 0 if there is no room. What follows the part that has failed is not sent. */
static int publish(void *xpub, const char *topic, const char *name, const char *number, const void *body, size_t size)
{
	if (zmq_send(xpub, topic, strlen(topic), ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0 &&
	    zmq_send(xpub, name, strlen(name), ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0 &&
	    zmq_send(xpub, number, strlen(number), ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0 &&
	    zmq_send(xpub, body, size, ZMQ_DONTWAIT) >= 0)
		return 1;
	if (errno != EAGAIN)
		die("publish");
	return 0;
}

/* Publishes count messages and says in *full how many found no room. */
static int publish_all(void *xpub, const char *name, int count, const void *body, size_t size, int *full)
{
	int sent = 0;
	*full = 0;
	for (int i = 0; i < count; i++) {
		char number[16];
		snprintf(number, sizeof number, "%d", sent);
		if (publish(xpub, "cluster.all", name, number, body, size))
			sent++;
		else
			++*full;
	}
	return sent;
}

/* Receives one message; returns the number of its sender among nodes, and its own. */
static int receive(void *xsub, char **nodes, int n, int *number)
{
	char b[PARTS][256];
	for (int part = 0;; part++) {
		if (part == PARTS)
			die("a message has more than %d parts", PARTS);
		int size = zmq_recv(xsub, b[part], sizeof b[part] - 1, 0);
		if (size < 0)
			die("no message");
		if (size >= (int)sizeof b[part])
			die("a part has %d bytes", size);
		b[part][size] = 0;
		int more;
		size_t len = sizeof more;
		if (zmq_getsockopt(xsub, ZMQ_RCVMORE, &more, &len) != 0)
			die("ZMQ_RCVMORE");
		if (!more && part + 1 != PARTS)
			die("a message has %d parts", part + 1);
		if (!more)
			break;
	}
	if (strcmp(b[0], "cluster.all") != 0)
		die("topic %s was not subscribed", b[0]);
	*number = atoi(b[2]);
	for (int i = 0; i < n; i++)
		if (strcmp(nodes[i], b[1]) == 0)
			return i;
	die("message of %s", b[1]);
	return -1;
}

static int node(void *context, int argc, char **argv)
{
	const char *name = argv[2];
	int count = atoi(argv[3]), n = argc - 4, next[MAX_NODES] = {0}, full, number;
	char **nodes = argv + 4, topic[256];
	if (n > MAX_NODES)
		die("%d nodes", n);
	void *xpub = connected(context, ZMQ_XPUB, argv[0]);
	void *xsub = connected(context, ZMQ_XSUB, argv[1]);

	/* Ready when our own subscription comes back. A node subscribes its own topic after the common one: who sees it knows
	 * that both are there. */
	int ready = 0, missing = n, seen[MAX_NODES] = {0};
	snprintf(topic, sizeof topic, "ready.%s", name);
	subscribe(xsub, 1, topic);
	while (missing > 0) {
		char b[256];
		int size = zmq_recv(xpub, b, sizeof b - 1, 0);
		if (size < 1 || size >= (int)sizeof b)
			die("ready: %d, and %d nodes are missing", ready, missing);
		b[size] = 0;
		if (b[0] == 1 && !ready && strcmp(b + 1, topic) == 0) {
			ready = 1;
			subscribe(xsub, 1, "cluster.");
			snprintf(topic, sizeof topic, "node.%s", name);
			subscribe(xsub, 1, topic);
		}
		for (int i = 0; i < n; i++)
			if (b[0] == 1 && strncmp(b + 1, "node.", 5) == 0 && strcmp(b + 6, nodes[i]) == 0 && !seen[i]) {
				seen[i] = 1;
				missing--;
			}
	}
	int sent = publish_all(xpub, name, count, "payload", 7, &full);
	for (int left = n * count; left > 0; left--) {
		int from = receive(xsub, nodes, n, &number);
		if (number != next[from]++)
			die("message %d of %s in place of %d", number, nodes[from], next[from] - 1);
	}
	subscribe(xsub, 0, "cluster.");
	printf("{\"sent\": %d, \"full\": %d}\n", sent, full);
	zmq_close(xsub);
	zmq_close(xpub);
	return 0;
}

static int flood(void *context, char **argv)
{
	size_t size = atoi(argv[2]);
	char *body = calloc(1, size);
	int full;
	void *xpub = connected(context, ZMQ_XPUB, argv[0]);
	set(xpub, ZMQ_LINGER, PATIENCE);
	await(xpub, "cluster.");
	int sent = publish_all(xpub, "flood", atoi(argv[1]), body, size, &full);
	printf("{\"sent\": %d, \"full\": %d}\n", sent, full);
	fflush(stdout);
	zmq_close(xpub);
	free(body);
	return 0;
}

int main(int argc, char **argv)
{
	void *context = zmq_ctx_new();
	int status = 2;
	if (argc > 6 && strcmp(argv[1], "node") == 0)
		status = node(context, argc - 2, argv + 2);
	else if (argc == 5 && strcmp(argv[1], "flood") == 0)
		status = flood(context, argv + 2);
	zmq_ctx_term(context);
	return status;
}
