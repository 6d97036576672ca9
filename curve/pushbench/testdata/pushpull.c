/* libzmq PUSH->PULL over loopback: pushpull curve|null SIZE COUNT. Prints seconds from the first message received to the last. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static size_t size;
static long count;
static int curve;
static char server_public[41], server_secret[41], client_public[41], client_secret[41], endpoint[256];

static void check(int failed, const char *what)
{
	if (failed) {
		fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
		exit(1);
	}
}

static void *push(void *unused)
{
	void *ctx = zmq_ctx_new(), *s = zmq_socket(ctx, ZMQ_PUSH);
	if (curve) {
		check(zmq_setsockopt(s, ZMQ_CURVE_SERVERKEY, server_public, 41), "CURVE_SERVERKEY");
		check(zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, client_public, 41), "CURVE_PUBLICKEY");
		check(zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, client_secret, 41), "CURVE_SECRETKEY");
	}
	check(zmq_connect(s, endpoint), "connect");
	char *body = calloc(1, size);
	for (long i = 0; i < count; i++)
		check(zmq_send(s, body, size, 0) < 0, "send");
	zmq_close(s);
	zmq_ctx_term(ctx);
	return unused;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	curve = !strcmp(argv[1], "curve");
	size = strtoul(argv[2], NULL, 10);
	count = atol(argv[3]);
	check(zmq_curve_keypair(server_public, server_secret), "keypair");
	check(zmq_curve_keypair(client_public, client_secret), "keypair");
	void *ctx = zmq_ctx_new(), *s = zmq_socket(ctx, ZMQ_PULL);
	int one = 1;
	size_t n = sizeof endpoint;
	if (curve) {
		check(zmq_setsockopt(s, ZMQ_CURVE_SERVER, &one, sizeof one), "CURVE_SERVER");
		check(zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, server_secret, 41), "CURVE_SECRETKEY");
	}
	check(zmq_bind(s, "tcp://127.0.0.1:*"), "bind");
	check(zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, endpoint, &n), "LAST_ENDPOINT");
	pthread_t thread;
	check(pthread_create(&thread, NULL, push, NULL), "thread");
	double begin = 0;
	for (long i = 0; i < count; i++) {
		zmq_msg_t m;
		zmq_msg_init(&m);
		check(zmq_msg_recv(&m, s, 0) < 0, "recv");
		zmq_msg_close(&m);
		if (i == 0)
			begin = now();
	}
	printf("%.6f\n", now() - begin);
	pthread_join(thread, NULL);
	zmq_close(s);
	zmq_ctx_term(ctx);
	return 0;
}
