/* A bare relay of bytes: whatever a publisher sends goes to every subscriber, unparsed. Prints the two ports. It is the
 * floor of what a broker can cost. One thread a publisher, so that it may use both cores as the others may. It says one byte
 * to each connection when it has taken it in. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int subscribers[1024], count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int listener(int *port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || listen(fd, 128) || getsockname(fd, (struct sockaddr *)&a, &n)) {
		perror("relay");
		exit(1);
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static int next(int fd)
{
	int one = 1, c = accept(fd, NULL, NULL);
	if (c < 0)
		exit(1);
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return c;
}

static void *relay(void *arg)
{
	int fd = (int)(long)arg;
	char *buf = malloc(65536);
	ssize_t n;
	if (write(fd, "!", 1) != 1)
		exit(1);
	while ((n = read(fd, buf, 65536)) > 0) {
		pthread_mutex_lock(&lock); /* else the bytes of two publishers would mix */
		for (int i = 0; i < count; i++)
			for (ssize_t at = 0, m; at < n; at += m)
				if ((m = write(subscribers[i], buf + at, n - at)) <= 0)
					exit(1);
		pthread_mutex_unlock(&lock);
	}
	free(buf);
	close(fd);
	return NULL;
}

static void *publishers(void *arg)
{
	for (;;) {
		pthread_t t;
		pthread_create(&t, NULL, relay, (void *)(long)next((int)(long)arg));
		pthread_detach(t);
	}
	return NULL;
}

int main(void)
{
	int in, out;
	int fin = listener(&in), fout = listener(&out);
	pthread_t t;
	printf("%d %d\n", in, out);
	fflush(stdout);
	pthread_create(&t, NULL, publishers, (void *)(long)fin);
	for (;;) {
		int c = next(fout);
		pthread_mutex_lock(&lock);
		subscribers[count++] = c;
		pthread_mutex_unlock(&lock);
		if (write(c, "!", 1) != 1)
			exit(1);
	}
}
