/* A small HTTP server on loopback that also does what bad servers do: cuts, stalls, lies about lengths and ranges. It
 * answers proxy requests too, by refusing them. One thread; a connection a request. */
#ifndef QE_TESTS_HTTP_SERVER_H
#define QE_TESTS_HTTP_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is served under a path. Counters are used up by requests; -1: never used up. */
typedef struct served {
  const char *path;
  const void *data;
  size_t bytes;
  const char *location; /* a redirection to there */
  const char *type;     /* Content-Type */
  int status, failures; /* answer the first `failures` requests with this status */
  int retry_after;      /* seconds that those answers say */
  size_t cut;           /* end the body after so many bytes, in the first `cuts` answers */
  int cuts;
  bool stall;        /* rather than end it there, send nothing more */
  bool no_ranges;    /* every answer is the whole file, 200 */
  bool no_length;    /* no Content-Length: the end of the connection ends it */
  long long claimed; /* Content-Length that is said; 0: the truth */
  long long shift;   /* ranges begin so many bytes off, and say so */
  int hits;          /* requests so far */
  char range[64];    /* the latest request's Range, "" when it had none */
} served;

typedef struct http_server {
  served *files;
  int count;
  int listener, port;
  int proxy_status; /* answer to requests made to a proxy */
  int proxied;      /* how many came */
  atomic_bool closing;
  pthread_t thread;
} http_server;

static inline void http_send(int fd, const void *data, size_t bytes) {
  const char *at = data;
  while (bytes > 0) {
    ssize_t put = send(fd, at, bytes, MSG_NOSIGNAL);
    if (put <= 0) return;
    at += put;
    bytes -= (size_t)put;
  }
}

/* The head of a request, up to the empty line. */
static inline bool http_receive(int fd, char *head, size_t room) {
  size_t used = 0;
  while (used + 1 < room) {
    ssize_t got = recv(fd, head + used, room - 1 - used, 0);
    if (got <= 0) return false;
    used += (size_t)got;
    head[used] = 0;
    if (strstr(head, "\r\n\r\n")) return true;
  }
  return false;
}

static inline void http_status(int fd, int status, int retry_after, const char *location) {
  char head[512];
  int used = snprintf(head, sizeof head, "HTTP/1.1 %d Status\r\nContent-Length: 5\r\nConnection: close\r\n", status);
  if (retry_after) used += snprintf(head + used, sizeof head - (size_t)used, "Retry-After: %d\r\n", retry_after);
  if (location) used += snprintf(head + used, sizeof head - (size_t)used, "Location: %s\r\n", location);
  snprintf(head + used, sizeof head - (size_t)used, "\r\nsorry");
  http_send(fd, head, strlen(head));
}

/* Nothing more comes, until the client goes away or the server closes. */
static inline void http_stall(const http_server *server, int fd) {
  char byte;
  for (struct pollfd wait = {fd, POLLIN, 0}; !atomic_load(&server->closing);)
    if (poll(&wait, 1, 20) > 0 && recv(fd, &byte, 1, 0) <= 0) return;
}

static inline void http_body(http_server *server, served *file, int fd, long long first) {
  char head[512];
  size_t length = file->bytes - (size_t)first;
  bool part = first > 0;
  int used = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close\r\n", part ? "206 Partial" : "200 OK");
  if (part)
    used += snprintf(head + used, sizeof head - (size_t)used, "Content-Range: bytes %lld-%zu/%zu\r\n",
                     first + file->shift, file->bytes - 1, file->bytes);
  if (file->type) used += snprintf(head + used, sizeof head - (size_t)used, "Content-Type: %s\r\n", file->type);
  if (!file->no_length)
    used += snprintf(head + used, sizeof head - (size_t)used, "Content-Length: %lld\r\n",
                     file->claimed ? file->claimed : (long long)length);
  snprintf(head + used, sizeof head - (size_t)used, "\r\n");
  http_send(fd, head, strlen(head));
  bool cut = file->cuts != 0 && file->cut < length;
  http_send(fd, (const char *)file->data + first, cut ? file->cut : length);
  if (cut && file->cuts > 0) file->cuts--;
  if (cut && file->stall) http_stall(server, fd);
}

static inline void http_answer(http_server *server, int fd) {
  char head[8192], path[512] = "";
  long long first = 0;
  if (!http_receive(fd, head, sizeof head)) return;
  if (strncmp(head, "CONNECT ", 8) == 0 || strncmp(head, "GET http:", 9) == 0) {
    server->proxied++;
    http_status(fd, server->proxy_status, 0, NULL);
    return;
  }
  if (sscanf(head, "GET %511s", path) != 1) return;
  const char *range = strstr(head, "\r\nRange: ");
  for (int at = 0; at < server->count; at++) {
    served *file = &server->files[at];
    if (strcmp(file->path, path) != 0) continue;
    file->hits++;
    file->range[0] = 0;
    if (range) (void)sscanf(range, "\r\nRange: %63s", file->range);
    if (range && !file->no_ranges) (void)sscanf(range, "\r\nRange: bytes=%lld-", &first);
    if (file->failures != 0) {
      if (file->failures > 0) file->failures--;
      http_status(fd, file->status, file->retry_after, NULL);
    } else if (file->location) {
      http_status(fd, 302, 0, file->location);
    } else if ((size_t)first >= file->bytes) {
      http_status(fd, 416, 0, NULL);
    } else {
      http_body(server, file, fd, first);
    }
    return;
  }
  http_status(fd, 404, 0, NULL);
}

static inline void *http_run(void *context) {
  http_server *server = context;
  for (;;) {
    int fd = accept(server->listener, NULL, NULL);
    if (atomic_load(&server->closing)) {
      if (fd >= 0) close(fd);
      return NULL;
    }
    if (fd < 0) continue;
    http_answer(server, fd);
    shutdown(fd, SHUT_RDWR);
    close(fd);
  }
}

/* False when there is no loopback. */
static inline bool http_open(http_server *server, served *files, int count) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  memset(server, 0, sizeof *server);
  server->files = files;
  server->count = count;
  server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(server->listener, 16) != 0 || getsockname(server->listener, (struct sockaddr *)&address, &length) != 0)
    return false;
  server->port = ntohs(address.sin_port);
  return pthread_create(&server->thread, NULL, http_run, server) == 0;
}

static inline void http_close(http_server *server) {
  atomic_store(&server->closing, true);
  shutdown(server->listener, SHUT_RDWR);
  pthread_join(server->thread, NULL);
  close(server->listener);
}

#endif
