package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	ctdsnapshot "github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/gofrs/flock"
	"github.com/moby/buildkit/cache/remotecache"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	"github.com/moby/sys/userns"
	fscopy "github.com/tonistiigi/fsutil/copy"
	bolt "go.etcd.io/bbolt"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"nodesmith.dev/nodesmith/internal/fault"
)

const (
	// reservedBytes of cache are kept whatever their age: about one image.
	reservedBytes = 10e9
	// freeBytes of the file system are left to others once more than
	// reservedBytes are used.
	freeBytes = 10e9
	// keepFor is how long an unused cache entry stays below the bound.
	keepFor = 14 * 24 * time.Hour
	// historyEntries bounds BuildKit's own record of past builds.
	historyEntries = 10
	// maxMessage bounds one gRPC message in bytes, as buildkitd does.
	maxMessage = 16 << 20
	// maxSocketPath is the longest path of a Unix socket in bytes, unix(7).
	maxSocketPath = 107
	// noticeAfter is how long this process waits for another before it says so.
	noticeAfter = 2 * time.Second
	// drainFor is how long an interrupted Close waits for steps to be unmounted.
	drainFor = 1 * time.Second
)

// embedded returns an engine on options.Root. The first process runs it and
// serves ROOT/engine.sock; another one meanwhile becomes its client. Closing it
// waits for those, unless interrupted is closed.
func embedded(ctx context.Context, options Options, interrupted <-chan struct{}) (connection, error) {
	if err := os.MkdirAll(options.Root, 0o711); err != nil {
		return connection{}, fmt.Errorf("engine state: %w", err)
	}
	return connect(ctx, options, interrupted)
}

// connect runs the engine in this process, or joins the one that another runs.
func connect(ctx context.Context, options Options, interrupted <-chan struct{}) (connection, error) {
	socket := filepath.Join(options.Root, "engine.sock")
	notice := time.AfterFunc(noticeAfter, func() {
		options.Log("waiting for the engine in %s, which another nodesmith holds", options.Root)
	})
	defer notice.Stop()
	for {
		owner := flock.New(filepath.Join(options.Root, lockFile))
		locked, err := owner.TryLock()
		if err != nil {
			return connection{}, fmt.Errorf("engine state: %w", err)
		}
		if locked {
			notice.Stop()
			return own(ctx, options, interrupted, owner)
		}
		c, err := join(ctx, socket, interrupted)
		if err == nil {
			return connection{client: c, joined: true, close: c.Close}, nil
		}
		// It starts, or ends: ask again, and run it ourselves if it has ended.
		select {
		case <-ctx.Done():
			return connection{}, fault.New(fault.Interrupted, "",
				"another process holds the engine in %s and does not answer on %s: %w", options.Root, socket, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// join connects to the engine of the process that owns the state directory.
func join(ctx context.Context, socket string, interrupted <-chan struct{}) (*client.Client, error) {
	c, err := client.New(ctx, "unix://"+socket, untilInterrupted(interrupted))
	if err != nil {
		return nil, err
	}
	if _, err := c.ListWorkers(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// own runs the engine here, whose lock owner holds.
func own(ctx context.Context, options Options, interrupted <-chan struct{}, owner *flock.Flock) (connection, error) {
	sweep(ctx, options.Root)
	conn, err := sound(ctx, options, interrupted)
	if err != nil {
		err = fault.NoSpaceOr(fmt.Errorf("starting the build engine in %s: %w", options.Root, err))
		if fault.KindOf(err) == fault.Internal {
			err = fault.New(fault.Engine, "", "%w", err)
		}
		return connection{}, errors.Join(err, owner.Close())
	}
	stop := conn.close
	conn.close = func() error { return errors.Join(stop(), owner.Close()) }
	return conn, nil
}

// sound starts the engine, on an empty cache where the one that is there is
// damaged: see damage_linux.go.
func sound(ctx context.Context, options Options, interrupted <-chan struct{}) (conn connection, err error) {
	crashed := crashedInDatabase(options.Root)
	forgetWords, err := keepLastWords(options.Root)
	if err != nil {
		return connection{}, err
	}
	defer func() {
		if err != nil {
			forgetWords()
		}
	}()
	var damage error
	switch {
	case crashed:
		damage = errCrashed
	case stopped(options.Root):
		damage = errStopped
	default:
		damage = damaged(options.Root)
	}
	if damage == nil {
		if conn, err = noted(ctx, options, interrupted); noDatabase(err) {
			damage = err
		}
	}
	if damage != nil {
		options.Log("the databases of the engine in %s are damaged, it starts from an empty cache: %v", options.Root, damage)
		if err = forget(options.Root); err == nil {
			conn, err = noted(ctx, options, interrupted)
		}
	}
	if err != nil {
		return connection{}, err
	}
	stop := conn.close
	conn.close = func() error {
		err := stop()
		forgetWords()
		return err
	}
	conn.doubt = func(failure error) { doubt(options.Root, failure) }
	return conn, nil
}

// noted runs the engine and notes that it does.
func noted(ctx context.Context, options Options, interrupted <-chan struct{}) (connection, error) {
	end, err := keepRunning(options.Root, interrupted)
	if err != nil {
		return connection{}, err
	}
	conn, err := embed(ctx, options, interrupted)
	if err != nil {
		return connection{}, errors.Join(err, end())
	}
	stop := conn.close
	conn.close = func() error { return errors.Join(stop(), end()) }
	return conn, nil
}

// hostHas fails unless this host can run steps.
func hostHas() error {
	if os.Geteuid() != 0 && !userns.RunningInUserNS() {
		return fault.New(fault.MissingHost, "run it with sudo", "building needs root: the steps run in containers")
	}
	if !mayMount() {
		return fault.New(fault.MissingHost, "run the container with --privileged, or as an ordinary user (docs/engines.md)",
			"building needs to mount file systems, and this container's root may not (CAP_SYS_ADMIN)")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		return fault.New(fault.MissingHost, "apt-get install runc", "the program runc is not installed: the build's steps run in it")
	}
	return nil
}

// mayMount says whether this process has the capability to mount. Root has it, but in
// containers; a process that can't be asked will see.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// embed starts BuildKit in this process: a runc worker, its caches under
// options.Root, and a gRPC server on a pipe and on the socket.
func embed(ctx context.Context, options Options, interrupted <-chan struct{}) (_ connection, err error) {
	// buildkitd does both in its main package: without them, snapshots and
	// copies would get their modes cut by the caller's umask.
	syscall.Umask(0)
	fscopy.UmaskIsZero = true
	// containerd asked where temporary files go before main could say.
	if err := mount.SetTempMountLocation(os.TempDir()); err != nil {
		return connection{}, fmt.Errorf("the folder for temporary files: %w", err)
	}

	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	sessions, err := session.NewManager()
	if err != nil {
		return connection{}, err
	}
	// BuildKit closes everything of its own but the snapshotter's database,
	// which would lock out the next engine of this process.
	var snapshotter ctdsnapshot.Snapshotter
	controller, err := newController(ctx, options, sessions, &snapshotter)
	if err != nil {
		return connection{}, err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.ChainStreamInterceptor(whileAsked))
	controller.Register(server)
	pipe := bufconn.Listen(1 << 20)
	socket, err := listen(ctx, filepath.Join(options.Root, "engine.sock"))
	if err != nil {
		return connection{}, errors.Join(err, controller.Close(), snapshotter.Close())
	}
	for _, listener := range []net.Listener{pipe, socket} {
		go func() { _ = server.Serve(listener) }() // ends with server.Stop
	}
	c, err := client.New(ctx, "passthrough:///buildkit", untilInterrupted(interrupted), client.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		server.Stop()
		return connection{}, errors.Join(err, controller.Close(), snapshotter.Close())
	}
	return connection{client: c, close: func() error {
		err := c.Close()
		drain(interrupted, server, socket, options.Log)
		cancel()
		return errors.Join(err, controller.Close(), snapshotter.Close())
	}}, nil
}

func newController(ctx context.Context, options Options, sessions *session.Manager, snapshotter *ctdsnapshot.Snapshotter) (_ *control.Controller, err error) {
	w, err := newWorker(ctx, options, snapshotter)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close(), (*snapshotter).Close())
		}
	}()
	workers := &worker.Controller{}
	if err := workers.Add(&mountingWorker{&compilingWorker{w, places()}}); err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(options.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	history, err := boltutil.SafeOpen(filepath.Join(options.Root, "history.db"), 0o600,
		&bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, errors.Join(err, cache.Close())
	}
	entries := int64(historyEntries)
	registries := resolver.NewRegistryConfig(nil)
	results := solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers))
	importers := map[string]remotecache.ResolveCacheImporterFunc{
		"local":    localcache.ResolveCacheImporterFunc(sessions),
		"registry": registrycache.ResolveCacheImporterFunc(sessions, w.ContentStore(), registries),
	}
	controller, err := control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{planFrontend: &planner{results, workers, importers}},
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"local":    localcache.ResolveCacheExporterFunc(sessions),
			"registry": registrycache.ResolveCacheExporterFunc(sessions, registries),
		},
		ResolveCacheImporterFuncs: importers,
		CacheManager:              results,
		MeterProvider:             noop.NewMeterProvider(),
		HistoryDB:                 history,
		CacheStore:                cache,
		LeaseManager:              w.LeaseManager(),
		ContentStore:              w.ContentStore(),
		HistoryConfig:             &config.HistoryConfig{MaxEntries: &entries},
		GarbageCollect:            w.GarbageCollect,
		GracefulStop:              ctx.Done(),
	})
	if err != nil {
		return nil, errors.Join(err, history.Close(), cache.Close())
	}
	return controller, nil
}

// newWorker returns the runc worker, and its snapshotter in *snapshotter.
func newWorker(ctx context.Context, options Options, snapshotter *ctdsnapshot.Snapshotter) (*base.Worker, error) {
	name, err := snapshotterName(options.Root)
	if err != nil {
		return nil, err
	}
	factory := runc.SnapshotterFactory{Name: name}
	factory.New = func(root string) (made ctdsnapshot.Snapshotter, err error) {
		if err := removeUnrecorded(ctx, root); err != nil {
			return nil, fmt.Errorf("snapshots in %s: %w", root, err)
		}
		if factory.Name == nativeSnapshotter {
			made, err = native.NewSnapshotter(root)
		} else {
			made, err = overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
		}
		*snapshotter = made
		return made, err
	}
	worker, err := runc.NewWorkerOpt(options.Root, factory, userns.RunningInUserNS(), oci.ProcessSandbox, nil, nil,
		netproviders.Opt{Mode: "host"}, nil, "", "", false, places(), "", "", nil)
	if err != nil {
		return nil, err
	}
	limit := options.MaxBytes
	if limit == 0 {
		limit = DefaultMaxBytes
	}
	worker.RegistryHosts = resolver.NewRegistryConfig(nil)
	worker.GCPolicy = []client.PruneInfo{ // nil would mean: never
		{KeepDuration: keepFor, MaxUsedSpace: limit, ReservedSpace: reservedBytes, MinFreeSpace: freeBytes},
		{All: true, MaxUsedSpace: limit, ReservedSpace: reservedBytes, MinFreeSpace: freeBytes},
	}
	return base.NewWorker(ctx, worker)
}

// places are for as many steps at once as there are cores. Each may use all of them;
// memory is bounded by their number.
func places() *semaphore.Weighted { return semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))) }

const nativeSnapshotter = "native"

// snapshotterName is overlayfs, or native (whole copies, several times slower)
// where the state directory lies on an overlay itself. That there was no room to try
// says nothing about overlays.
func snapshotterName(root string) (string, error) {
	err := overlayutils.Supported(root)
	switch {
	case err == nil:
		return "overlayfs", nil
	case full(err), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "", fmt.Errorf("trying an overlay: %w", err)
	}
	return nativeSnapshotter, nil
}
