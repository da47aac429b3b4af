package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/publish"
)

// wholeTag stands in the description of an item that is finished.
const wholeTag = "nodesmith-state"

// item is one of a content library, whose description says what it was made of.
type item struct {
	library.Item
	notes map[string]string
}

// items lists a library.
func items(ctx context.Context, m *library.Manager, name string) (*library.Library, []item, error) {
	lib, err := m.GetLibraryByName(ctx, name)
	if err != nil {
		if rest.IsStatusError(err, http.StatusUnauthorized) || classify(err) != publish.Final {
			return nil, nil, err
		}
		return nil, nil, fault.New(fault.BadSpec, "govc library.ls lists them", "library: %w", err)
	}
	all, err := m.GetLibraryItems(ctx, lib.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("library %s: %w", name, err)
	}
	list := make([]item, 0, len(all))
	for _, i := range all {
		notes := map[string]string{}
		if i.Description != nil {
			for line := range strings.Lines(*i.Description) {
				if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
					notes[key] = value
				}
			}
		}
		list = append(list, item{i, notes})
	}
	return lib, list, nil
}

func (i *item) digest() digest.Digest { return digest.Digest(i.notes[publish.TagDigest]) }
func (i *item) whole() bool           { return i.notes[wholeTag] == "whole" }

// reference is the item as tags know it.
func (i *item) reference() mo.Reference {
	return types.ManagedObjectReference{Type: "com.vmware.content.library.Item", Value: i.ID}
}

// shelf is what a plan looks at: the items of the library.
type shelf struct {
	library     *library.Library
	mine, other *item
}

// lookItems lists the library.
func (j *job) lookItems(ctx context.Context) (s shelf, err error) {
	err = j.withREST(ctx, func(c *rest.Client) error {
		lib, all, err := items(ctx, library.NewManager(c), j.target.Library)
		s = shelf{library: lib}
		for i := range all {
			switch found := &all[i]; {
			case found.digest() == j.image.Digest && (found.Name == j.name || found.Name == importName(j.name, j.image.Digest)):
				if s.mine == nil || found.whole() {
					s.mine = found
				}
			case found.Name == j.name:
				s.other = found
			}
		}
		return err
	})
	return s, err
}

// description says what an item was made of.
func (j *job) description(state string) *string {
	var b strings.Builder
	wanted := j.image.Tags()
	wanted[wholeTag] = state
	for _, key := range []string{publish.TagBy, publish.TagDigest, publish.TagKubernetes, publish.TagOS, publish.TagLevel, wholeTag} {
		fmt.Fprintf(&b, "%s: %s\n", key, wanted[key])
	}
	text := b.String()
	return &text
}

// planItem fills in the steps that make an item.
func (j *job) planItem(ctx context.Context, plan *publish.Plan) error {
	s, err := j.lookItems(ctx)
	if err != nil {
		return err
	}
	if s.other != nil && !j.target.Replace {
		return fault.New(fault.Usage, "set replace: true in the PublishTarget, or another name", "library %s has an item %s already", j.target.Library, j.name)
	}
	whole := s.mine != nil && s.mine.whole()
	step := publish.Step{ID: "import", Action: publish.Create, Kind: "library item", Do: j.importItem}
	if s.mine != nil && !whole {
		step.Action, step.Why = publish.Resume, "an earlier upload broke off: it is sent again"
	}
	if step.Bytes, err = dataBytes(j.image.Disk); err != nil {
		return err
	}
	b := builder{plan: plan, name: j.name}
	b.add(choose(whole, step))
	described := whole && *s.mine.Description == *j.description("whole")
	if described {
		if described, err = j.hasTags(ctx, s.mine.reference()); err != nil {
			return err
		}
	}
	b.add(choose(described, publish.Step{ID: "describe", Action: publish.Change, Kind: "description and tags", Do: j.describeItem}))
	if s.other != nil {
		old := s.other.ID
		b.add(publish.Step{ID: "remove/" + old, Action: publish.Delete, Kind: "library item", Why: "replaced", Do: func(ctx context.Context, _ *publish.Run) error {
			return j.withREST(ctx, func(c *rest.Client) error { return deleteItem(ctx, library.NewManager(c), old) })
		}})
	}
	b.add(choose(whole && s.mine.Name == j.name, publish.Step{ID: "name", Action: publish.Change, Kind: "name", Do: j.renameItem}))
	return nil
}

// deleteItem takes an item away, with uploads to it that were not finished.
func deleteItem(ctx context.Context, m *library.Manager, id string) error {
	sessions, err := m.ListLibraryItemUpdateSession(ctx)
	if err != nil {
		return fmt.Errorf("list uploads: %w", err)
	}
	for _, session := range sessions {
		s, err := m.GetLibraryItemUpdateSession(ctx, session)
		if err != nil || s.LibraryItemID != id {
			continue // ended meanwhile
		}
		if s.State == "ACTIVE" {
			if err := m.CancelLibraryItemUpdateSession(ctx, session); err != nil {
				return fmt.Errorf("end the upload that was not finished: %w", err)
			}
		}
	}
	if err := m.DeleteLibraryItem(ctx, &library.Item{ID: id}); err != nil && !rest.IsStatusError(err, http.StatusNotFound) {
		return fmt.Errorf("delete the item: %w", err)
	}
	return nil
}

// importItem makes the item and sends the OVA's files.
func (j *job) importItem(ctx context.Context, run *publish.Run) (err error) {
	s, err := j.lookItems(ctx)
	if err != nil || s.mine != nil && s.mine.whole() {
		return err
	}
	a, err := j.openOVA(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := run.Note("name", importName(j.name, j.image.Digest)); err != nil {
		return err
	}
	return j.withREST(ctx, func(c *rest.Client) error {
		m := library.NewManager(c)
		if s.mine != nil {
			if err := deleteItem(ctx, m, s.mine.ID); err != nil {
				return err
			}
		}
		id, err := m.CreateLibraryItem(ctx, library.Item{
			LibraryID: s.library.ID, Name: importName(j.name, j.image.Digest), Type: library.ItemTypeOVF, Description: j.description("importing"),
		})
		if err != nil {
			return raced(fmt.Errorf("make the item: %w", err))
		}
		if err := run.Note("item", id); err != nil {
			return err
		}
		if err := j.fillItem(ctx, run, c, a, id); err != nil {
			return err
		}
		return m.UpdateLibraryItem(ctx, &library.Item{ID: id, Description: j.description("whole")})
	})
}

// fillItem sends the OVA's files to an item. The vCenter checks them against the
// digests of the OVA's manifest.
func (j *job) fillItem(ctx context.Context, run *publish.Run, c *rest.Client, a *archive, id string) error {
	m := library.NewManager(c)
	session, err := m.CreateLibraryItemUpdateSession(ctx, library.Session{LibraryItemID: id})
	if err != nil {
		return fmt.Errorf("begin the upload: %w", err)
	}
	checksums, err := a.checksums()
	if err != nil {
		return err
	}
	group, sending := errgroup.WithContext(ctx)
	sending, stop := context.WithCancel(sending)
	defer stop()
	group.Go(func() error {
		defer stop()
		for _, f := range a.Files {
			if strings.HasSuffix(f.Name, ".mf") || strings.HasSuffix(f.Name, ".cert") {
				continue // the digests are handed over with the files
			}
			if err := sendItemFile(sending, run, c, a, session, f.Name, checksums[f.Name]); err != nil {
				return fmt.Errorf("send %s: %w", f.Name, err)
			}
		}
		return nil
	})
	group.Go(func() error { return keepUpload(sending, m, session) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := m.CompleteLibraryItemUpdateSession(ctx, session); err != nil {
		return fmt.Errorf("end the upload: %w", err)
	}
	if err := m.WaitOnLibraryItemUpdateSession(ctx, session, time.Second, run.Alive); err != nil {
		return fmt.Errorf("the vCenter takes the upload in: %w", err)
	}
	return nil
}

// keepUpload tells the vCenter that an upload goes on.
func keepUpload(ctx context.Context, m *library.Manager, session string) error {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := m.KeepAliveLibraryItemUpdateSession(ctx, session); err != nil && ctx.Err() == nil && classify(err) == publish.Final {
				return fmt.Errorf("keep the upload: %w", err)
			}
		}
	}
}

// checksums are those of the OVA's manifest, by file; none without one.
func (a *archive) checksums() (map[string]*library.Checksum, error) {
	for _, f := range a.Files {
		if strings.HasSuffix(f.Name, ".mf") {
			r, err := a.file(f.Name)
			if err != nil {
				return nil, err
			}
			return library.ReadManifest(r)
		}
	}
	return nil, nil
}

func sendItemFile(ctx context.Context, run *publish.Run, c *rest.Client, a *archive, session, name string, sum *library.Checksum) error {
	file, err := a.file(name)
	if err != nil {
		return err
	}
	update, err := library.NewManager(c).AddLibraryItemFile(ctx, session, library.UpdateFile{
		Name: name, SourceType: "PUSH", Checksum: sum, Size: file.Size(),
	})
	if err != nil {
		return err
	}
	if update.UploadEndpoint == nil {
		return errors.New("the vCenter names no address to send it to")
	}
	u, err := url.Parse(update.UploadEndpoint.URI)
	if err != nil {
		return err
	}
	upload := soap.DefaultUpload
	upload.ContentLength = file.Size()
	return c.Upload(ctx, &progressReader{file, run.Sent}, u, &upload)
}

// readyItem returns the finished item.
func (j *job) readyItem(ctx context.Context) (shelf, error) {
	s, err := j.lookItems(ctx)
	if err == nil && (s.mine == nil || !s.mine.whole()) {
		err = errNotThere
	}
	return s, err
}

func (j *job) describeItem(ctx context.Context, _ *publish.Run) error {
	s, err := j.readyItem(ctx)
	if err != nil {
		return err
	}
	err = j.withREST(ctx, func(c *rest.Client) error {
		return library.NewManager(c).UpdateLibraryItem(ctx, &library.Item{ID: s.mine.ID, Description: j.description("whole")})
	})
	if err != nil {
		return err
	}
	return j.tag(ctx, s.mine.reference())
}

func (j *job) renameItem(ctx context.Context, _ *publish.Run) error {
	s, err := j.readyItem(ctx)
	if err != nil || s.mine.Name == j.name {
		return err
	}
	return j.withREST(ctx, func(c *rest.Client) error {
		return library.NewManager(c).UpdateLibraryItem(ctx, &library.Item{ID: s.mine.ID, Name: j.name})
	})
}

// listItems returns this project's items of a library.
func listItems(ctx context.Context, c *client, name, place string) (list []publish.Published, err error) {
	err = c.withREST(ctx, func(session *rest.Client) error {
		_, all, err := items(ctx, library.NewManager(session), name)
		for i := range all {
			if all[i].digest() == "" {
				continue
			}
			p := publish.Published{
				Place: place, Region: name, Kind: "library item", ID: all[i].ID, Name: all[i].Name, Digest: all[i].digest(),
				Kubernetes: all[i].notes[publish.TagKubernetes], Level: all[i].notes[publish.TagLevel],
			}
			if all[i].CreationTime != nil {
				p.Created = *all[i].CreationTime
			}
			list = append(list, p)
		}
		return err
	})
	return list, err
}

// retractItems fills in the steps that take an image's items away. What was
// deployed from an item is a copy and stays.
func retractItems(ctx context.Context, c *client, name string, plan *publish.Plan) error {
	var last []string
	err := c.withREST(ctx, func(session *rest.Client) error {
		_, all, err := items(ctx, library.NewManager(session), name)
		for _, found := range all {
			if found.digest() != plan.Image {
				continue
			}
			step := publish.Step{ID: "remove/" + found.ID, Action: publish.Delete, Region: name, Kind: "library item", Name: found.Name}
			step.Do = func(ctx context.Context, run *publish.Run) error {
				if err := detachTag(ctx, c, plan.Image, found.reference()); err != nil {
					return err
				}
				err := c.withREST(ctx, func(session *rest.Client) error { return deleteItem(ctx, library.NewManager(session), found.ID) })
				if err != nil {
					return err
				}
				return forget(run)
			}
			plan.Steps, last = append(plan.Steps, step), append(last, step.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	return addTagRemoval(ctx, c, plan.Image, last, plan)
}
