#include <stddef.h>

// received counts the messages that all receiving threads have got.
extern _Atomic long long received;

void *open_socket(int type, int hwm);
void listen_at(void *s, const char *endpoint, char *bound, size_t size);
void connect_to(void *s, const char *endpoint);
void subscribe_all(void *s);
void start_sending(void **sockets, int n, size_t size); // to the sockets in turn, for ever
void start_receiving(void *s);
void start_echoing(void *s);
void round_trips(void *s, size_t size, long long *ns, int n);
