/* Signals by way of the C library, and jumps out of handlers. */
#define _GNU_SOURCE
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile sig_atomic_t seen, count;

static void note(int signal) {
    seen = signal;
    count++;
}

static void handlers(void) {
    CHECK(signal(SIGUSR1, note) != SIG_ERR);
    count = 0;
    for (int i = 1; i <= 100; i++) {
        CHECK(raise(SIGUSR1) == 0);
        CHECK(count == i && seen == SIGUSR1);
    }
}

static sigjmp_buf back;

static void jump(int signal) { siglongjmp(back, signal); }

static void jumps_out_of_handlers(void) {
    struct sigaction action = {.sa_handler = jump};
    CHECK(sigaction(SIGSEGV, &action, 0) == 0 && sigaction(SIGFPE, &action, 0) == 0);
    volatile uintptr_t wild = 16;
    for (volatile int i = 0; i < 1000; i++) {
        int by = sigsetjmp(back, 1);
        if (by == 0) {
            *(volatile int *)wild = 1;
            CHECK(!"survived a wild store");
        }
        CHECK(by == SIGSEGV);
        /* The mask is back, or the second time round would kill. */
        sigset_t mask;
        CHECK(sigprocmask(SIG_BLOCK, 0, &mask) == 0 && !sigismember(&mask, SIGSEGV));
    }
    int by = sigsetjmp(back, 1);
    if (by == 0)
        __asm__ volatile("cltd; idivl %1" ::"a"(1), "r"(0) : "edx");
    CHECK(by == SIGFPE);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGFPE, SIG_DFL);
}

static jmp_buf here;

static int down(int depth) {
    volatile char frame[200];
    frame[depth] = 1;
    if (depth < 0)
        return 1;
    if (depth == 0)
        longjmp(here, 77);
    return down(depth - 1) + frame[depth];
}

static void long_jumps(void) {
    volatile int rounds = 0;
    double kept = 2.5;
    int value = setjmp(here);
    if (value == 0)
        down(50);
    CHECK(value == 77 || value == 78);
    if (++rounds < 100)
        longjmp(here, 78);
    CHECK(rounds == 100 && kept == 2.5);
}

static void masks_and_pending(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 3);
    signal(SIGUSR2, note);
    count = 0;
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0 && raise(SIGUSR2) == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) && count == 0);
    CHECK(sigprocmask(SIG_SETMASK, &old, 0) == 0 && count == 1);
    CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    union sigval value = {.sival_int = 12};
    CHECK(sigqueue(getpid(), SIGRTMIN + 3, value) == 0);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 3 && info.si_value.sival_int == 12 && info.si_pid == getpid());
    CHECK(sigprocmask(SIG_SETMASK, &old, 0) == 0);
}

static void alarms_interrupt(void) {
    struct sigaction action = {.sa_handler = note};
    CHECK(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval timer = {{0, 10000}, {0, 10000}}, none = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, 0) == 0);
    int fds[2];
    char byte;
    CHECK(pipe(fds) == 0);
    CHECK(read(fds[0], &byte, 1) == -1 && errno == EINTR);
    CHECK(pause() == -1 && errno == EINTR);
    CHECK(setitimer(ITIMER_REAL, &none, 0) == 0);
    close(fds[0]), close(fds[1]);
}

static void children_are_told(void) {
    signal(SIGCHLD, note);
    count = 0;
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        abort();
    int status;
    while (waitpid(pid, &status, 0) != pid)
        CHECK(errno == EINTR);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && count == 1 && seen == SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
}

static uintptr_t stack_seen;

static void on_other_stack(int signal) {
    char here;
    (void)signal;
    stack_seen = (uintptr_t)&here;
}

static void alternate_stack(void) {
    size_t size = SIGSTKSZ > 65536 ? SIGSTKSZ : 65536;
    char *room = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = room, .ss_size = size};
    CHECK(room != MAP_FAILED && sigaltstack(&stack, 0) == 0);
    struct sigaction action = {.sa_handler = on_other_stack, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, 0) == 0 && raise(SIGUSR1) == 0);
    CHECK(stack_seen >= (uintptr_t)room && stack_seen < (uintptr_t)room + size);
    signal(SIGUSR1, SIG_DFL);
}

int main(void) {
    CASE(handlers);
    CASE(jumps_out_of_handlers);
    CASE(long_jumps);
    CASE(masks_and_pending);
    CASE(alarms_interrupt);
    CASE(children_are_told);
    CASE(alternate_stack);
    return check_end();
}
