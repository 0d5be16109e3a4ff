/* Candidates of one call shared out over several devices, a thread for each but the first. Who evaluates a candidate
 * changes no result, so shares may follow the devices' measured speeds. */
#include "core/base/alloc.h"
#include "core/evolve/fitness_parts.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { MESSAGE = 512 };

typedef struct share {
  qe_fitness_job job;
  qe_status status;
  char message[MESSAGE]; /* of the thread's failure */
  pthread_t thread;
  bool started;
} share;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void *run_share(void *of) {
  share *s = of;
  qe_fitness_worker *worker = s->job.worker;
  int64_t start = now();
  s->status = qe_fitness_evaluate(&s->job);
  int64_t spent = now() - start, images = (int64_t)s->job.candidates * s->job.fitness->drawn.batch.count;
  if (s->status != QE_OK) snprintf(s->message, sizeof s->message, "%s", qe_message());
  worker->rate = images * 1000000 / (spent / 1000 + 1) + 1;
  return NULL;
}

/* In proportion to the rates, but each at least one while there are enough; what is left over goes to the first. */
static void divide(const qe_fitness *f, const qe_fitness_job *job, share *shares) {
  int64_t total = 0;
  int32_t left = job->candidates, at = 0;
  for (int i = 0; i < f->workers; i++) total += f->worker[i].rate;
  for (int i = f->workers - 1; i >= 0; i--) {
    int32_t part = (int32_t)(job->candidates * f->worker[i].rate / total);
    if (part == 0) part = 1;
    if (i == 0 || part > left) part = left;
    shares[i].job.candidates = part;
    left -= part;
  }
  for (int i = 0; i < f->workers; i++) {
    qe_fitness_job *one = &shares[i].job;
    int32_t part = one->candidates;
    *one = *job;
    one->worker = &f->worker[i];
    one->candidates = part;
    if (job->genomes) one->genomes = (const char *)job->genomes + (size_t)at * f->genome_bytes;
    one->loss += at;
    one->hits += at;
    at += part;
  }
}

static qe_status run_all(share *shares, int count) {
  qe_status status = QE_OK;
  for (int i = 1; i < count; i++)
    if (shares[i].job.candidates > 0)
      shares[i].started = pthread_create(&shares[i].thread, NULL, run_share, &shares[i]) == 0;
  for (int i = 0; i < count; i++)
    if (!shares[i].started && shares[i].job.candidates > 0) run_share(&shares[i]);
  for (int i = 0; i < count; i++)
    if (shares[i].started) pthread_join(shares[i].thread, NULL);
  for (int i = 0; i < count && status == QE_OK; i++)
    if (shares[i].status != QE_OK) status = qe_fail(shares[i].status, "%s", shares[i].message);
  return status;
}

qe_status qe_fitness_share(qe_fitness *f, const qe_fitness_job *job) {
  if (f->workers == 1 || job->candidates == 1) return qe_fitness_evaluate(job);
  share *shares = QE_NEW_ARRAY(share, f->workers);
  if (!shares) return QE_NO_MEMORY;
  divide(f, job, shares);
  qe_status status = run_all(shares, f->workers);
  qe_free(shares);
  return status;
}
