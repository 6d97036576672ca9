// A socket of a libzmq that was built with its draft types and with TLS for WebSocket. It is of type DEALER or PEER.
//
//	echo TYPE bind ENDPOINT [KEY CERTIFICATE]
//	echo TYPE connect ENDPOINT [TRUSTED HOST]
//
// One that binds prints its endpoint, and returns each message to the peer from which it came, until it is killed. One that
// connects sends messages, of 0 bytes to 256 KiB, expects each of them back, and ends with status 0. The other arguments
// are the names of PEM files, and the host name in the certificate; they belong to endpoints of wss.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

// Options and types that zmq.h has only with ZMQ_BUILD_DRAFT_API.
enum { PEER = 19, WSS_KEY_PEM = 103, WSS_CERT_PEM = 104, WSS_TRUST_PEM = 105, WSS_HOSTNAME = 106 };
extern uint32_t zmq_connect_peer(void *socket, const char *endpoint);
extern int zmq_msg_set_routing_id(zmq_msg_t *msg, uint32_t id);

static void check(int ok, const char *what) {
	if (!ok) {
		fprintf(stderr, "echo: %s: %s\n", what, zmq_strerror(zmq_errno()));
		exit(1);
	}
}

// set sets an option to the content of a file.
static void set(void *s, int option, const char *file) {
	char text[16 << 10];
	FILE *f = fopen(file, "r");
	check(f != NULL, file);
	size_t n = fread(text, 1, sizeof text, f);
	fclose(f);
	check(zmq_setsockopt(s, option, text, n) == 0, file);
}

int main(int argc, char **argv) {
	if (argc != 4 && argc != 6) {
		fprintf(stderr, "echo: see echo.c\n");
		return 2;
	}
	int peer = strcmp(argv[1], "PEER") == 0, binds = strcmp(argv[2], "bind") == 0, tls = argc == 6;
	char endpoint[256];
	size_t length = sizeof endpoint;
	int most = 256 << 10;
	char *body = malloc(most);
	void *s = zmq_socket(zmq_ctx_new(), peer ? PEER : ZMQ_DEALER);
	check(s != NULL, "zmq_socket");
	uint32_t id = 0;
	if (binds) {
		if (tls) {
			set(s, WSS_KEY_PEM, argv[4]);
			set(s, WSS_CERT_PEM, argv[5]);
		}
		check(zmq_bind(s, argv[3]) == 0, "zmq_bind");
		check(zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, endpoint, &length) == 0, "ZMQ_LAST_ENDPOINT");
		puts(endpoint);
		fflush(stdout);
		for (;;) {
			zmq_msg_t m; // keeps its routing id
			zmq_msg_init(&m);
			check(zmq_msg_recv(&m, s, 0) >= 0, "zmq_msg_recv");
			check(zmq_msg_send(&m, s, 0) >= 0, "zmq_msg_send");
		}
	}
	if (tls) {
		set(s, WSS_TRUST_PEM, argv[4]);
		check(zmq_setsockopt(s, WSS_HOSTNAME, argv[5], strlen(argv[5])) == 0, "WSS_HOSTNAME");
	}
	if (peer) {
		check((id = zmq_connect_peer(s, argv[3])) != 0, "zmq_connect_peer");
	} else {
		check(zmq_connect(s, argv[3]) == 0, "zmq_connect");
	}
	for (int size = 0; size <= most; size = size * 3 + 1) {
		memset(body, size, most);
		zmq_msg_t m;
		zmq_msg_init_size(&m, size);
		memcpy(zmq_msg_data(&m), body, size);
		check(!peer || zmq_msg_set_routing_id(&m, id) == 0, "zmq_msg_set_routing_id");
		check(zmq_msg_send(&m, s, 0) >= 0, "zmq_msg_send");
		zmq_msg_init(&m);
		check(zmq_msg_recv(&m, s, 0) >= 0, "zmq_msg_recv");
		if (zmq_msg_size(&m) != (size_t)size || memcmp(zmq_msg_data(&m), body, size) != 0) {
			fprintf(stderr, "echo: %zu other bytes came back for %d\n", zmq_msg_size(&m), size);
			return 1;
		}
		zmq_msg_close(&m);
	}
	return 0;
}
