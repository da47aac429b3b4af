/* Turns the clock of every program that it is preloaded into, by as many days
 * as /etc/clock-days says. What the kernel writes into inodes stays real. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
	static long seconds;
	static int known;
	if (!known) {
		char text[16] = {0};
		int fd = open("/etc/clock-days", O_RDONLY);
		if (fd >= 0) {
			if (read(fd, text, sizeof text - 1) > 0)
				seconds = atol(text) * 86400;
			close(fd);
		}
		known = 1;
	}
	return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int result = syscall(SYS_clock_gettime, clock, t);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += offset();
	return result;
}

time_t time(time_t *t)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (t)
		*t = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;
	int result = clock_gettime(CLOCK_REALTIME, &now);
	(void)zone;
	if (t) {
		t->tv_sec = now.tv_sec;
		t->tv_usec = now.tv_nsec / 1000;
	}
	return result;
}
