/* What the files of the emulated driver share: handles, streams and the error that ends a context. */
#ifndef EMULATOR_DRIVER_H
#define EMULATOR_DRIVER_H

/* The functions of the driver are what the library exports; everything else is hidden. */
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

/* Work of a stream; may run many times when a graph holds it. */
typedef std::function<void()> stream_work;

struct capture {
  std::vector<stream_work> works; /* in the order of the calls */
  CUstreamCaptureMode mode;
  std::thread::id thread;
  CUstream origin;
  bool broken;
};

/* Streams are lazy: what is queued runs when somebody waits for it. */
struct CUstream_st {
  std::deque<stream_work> queue;
  uint64_t queued, done;
  unsigned flags;
  std::shared_ptr<capture> recording; /* nullptr: not capturing */
  uint64_t recorded;                  /* works that it brought to the capture */
  bool joined;                        /* another stream of the capture waits for all of them */
};

struct CUevent_st {
  CUstream stream; /* of the last record; nullptr: none */
  uint64_t place;  /* done when so much of the stream is done; in a capture: works recorded before it */
  unsigned flags;
  std::shared_ptr<double> stamp;      /* seconds, when the record ran */
  std::shared_ptr<capture> recording; /* recorded into this capture */
};

struct CUgraph_st {
  std::vector<stream_work> works;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<stream_work>> works;
};

struct driver_state {
  std::recursive_mutex lock; /* of everything: one call at a time */
  bool initialised;
  int retained;       /* of the primary context */
  CUresult lost;      /* the error after which the context can do nothing; CUDA_SUCCESS */
  CUstream_st legacy; /* the null stream */
  std::set<CUstream> streams;
  std::set<CUevent> events;
  std::set<CUgraph> graphs;
  std::set<CUgraphExec> execs;
  std::set<CUmodule> modules;
  std::vector<std::weak_ptr<capture>> captures;
};

extern driver_state &driver;

/* What a call checks first: locks, and says whether the device can be used by this thread (error). */
struct driver_entry {
  std::lock_guard<std::recursive_mutex> guard;
  CUresult error;
  driver_entry();
};

#define DRIVER_ENTER()                                                                                                 \
  driver_entry entry;                                                                                                  \
  if (entry.error != CUDA_SUCCESS) return entry.error

/* stream.cc. nullptr: no such stream. */
CUstream stream_of(CUstream handle);
CUresult stream_add(CUstream handle, stream_work work);
void stream_run(CUstream stream, uint64_t place); /* until so much is done */
void stream_run_all();
void stream_clear(); /* destroys what the context still holds */
/* A call that must not be made while this thread captures: breaks the captures that forbid it. */
CUresult stream_refuse_in_capture();

/* Destroys one of the live handles; `unknown` where it is none of them. */
template <class handle> CUresult handle_destroy(std::set<handle> *live, handle which, CUresult unknown) {
  if (!live->erase(which)) return unknown;
  delete which;
  return CUDA_SUCCESS;
}

/* Ends the context: every call from now on returns the error. The message goes to stderr. */
void driver_lose(CUresult error, const char *message);
bool driver_traces(); /* EMULATED_CUDA_TRACE: each launch is told on stderr */

#endif
